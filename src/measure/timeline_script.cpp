#include "measure/timeline_assets.h"

namespace farskip::measure {

std::string_view timeline_script() {
  return R"js(
'use strict';
const chart = document.querySelector('.chart'), tip = document.querySelector('#tip');
const right = 16;
let svg, axis, labels, left, whole, height, spans;
let from, to, width = 0, due = false, at = null;

/// Reads the drawing, and puts all of it in view.
function take() {
  svg = chart.querySelector('svg');
  axis = svg.querySelector('#axis');
  labels = svg.querySelector('#labels');
  left = +svg.dataset.left;
  whole = +svg.dataset.length;
  height = svg.viewBox.baseVal.height;
  spans = [...svg.querySelectorAll('rect[data-b]')].map(rect => ({rect, b: +rect.dataset.b,
    e: +rect.dataset.e, name: rect.dataset.n, y: +rect.getAttribute('y'),
    h: +rect.getAttribute('height')}));
  // Where a part's label may stand: between what lies inside the part.
  const insets = spans.filter(({rect}) => rect.matches('.wait, .fill'));
  for (const span of spans.filter(({rect}) => rect.matches('.part'))) {
    span.free = [];
    let b = span.b;
    for (const {b: begin, e: end} of insets.filter(inset => inset.y === span.y &&
         inset.b >= span.b && inset.e <= span.e)) {
      span.free.push([b, begin]);
      b = end;
    }
    span.free.push([b, span.e]);
  }
  from = 0;
  to = whole;
  at = null;
}

const measured = document.createElement('canvas').getContext('2d');
measured.font = '11px Helvetica, Arial, "DejaVu Sans", sans-serif';
const widths = new Map();
function textWidth(text) {
  if (!widths.has(text)) widths.set(text, measured.measureText(text).width);
  return widths.get(text);
}
function add(parent, tag, attributes, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text) element.textContent = text;
  parent.append(element);
}
/// Bright spans have dark labels.
function dark(rect) {
  const [r, g, b] = getComputedStyle(rect).fill.match(/[\d.]+/g) || [0, 0, 0];
  return 0.299 * r + 0.587 * g + 0.114 * b > 150;
}

function draw() {
  due = false;
  width = chart.clientWidth;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('width', width);
  svg.setAttribute('height', height);
  const inner = width - left - right, scale = inner / (to - from);
  for (const lane of svg.querySelectorAll('.lane')) lane.setAttribute('width', inner);
  labels.replaceChildren();
  const place = (b, e) => [left + (Math.max(b, from) - from) * scale,
                           left + (Math.min(e, to) - from) * scale];
  for (const {rect, b, e, name, y, h, free} of spans) {
    const [x0, x1] = place(b, e);
    rect.style.display = x1 > x0 ? '' : 'none';
    if (x1 <= x0) continue;
    // A gap of half a pixel between neighbours that are wide enough to spare it.
    const w = x1 - x0 > 3 ? x1 - x0 - 0.5 : x1 - x0;
    rect.setAttribute('x', x0.toFixed(2));
    rect.setAttribute('width', w.toFixed(2));
    if (!name || w < 12) continue;
    const [l, r] = (free || [[b, e]]).map(([b, e]) => place(b, e))
      .reduce((best, next) => next[1] - next[0] > best[1] - best[0] ? next : best);
    const text = name.split('|').find(text => textWidth(text) + 6 < r - l);
    const kind = rect.matches('.layer') ? 'layer' : dark(rect) ? 'in dark' : 'in';
    if (text)
      add(labels, 'text', {class: kind, x: (l + r) / 2, y: y + h / 2 + 4}, text);
  }
  const raw = (to - from) * 90 / inner, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(factor => factor * power >= raw) * power;
  const [unit, suffix] = to >= 1e6 && step >= 1e3 ? [1e6, 'ms'] : [1e3, 'µs'];
  const digits = Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9));
  axis.replaceChildren();
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    const x = left + (tick - from) * scale;
    add(axis, 'line', {x1: x, x2: x, y1: 22, y2: height});
    add(axis, 'text', {class: 'tick', x, y: 14}, `${(tick / unit).toFixed(digits)} ${suffix}`);
  }
}
function view(begin, end) {
  const size = Math.min(whole, Math.max(500, end - begin));
  from = Math.min(Math.max(0, begin + (end - begin - size) / 2), whole - size);
  to = from + size;
  hide();
  if (!due) requestAnimationFrame(draw);
  due = true;
}
function zoom(factor, around = (from + to) / 2) {
  view(around - (around - from) * factor, around + (to - around) * factor);
}
const pan = share => view(from + (to - from) * share, to + (to - from) * share);

function hide() {
  tip.textContent = '';
  for (const rect of svg.querySelectorAll('.shown')) rect.classList.remove('shown');
}
function show(text, x, y) {
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - 12 - box.height : y + 18}px`;
}
/// The next wait worth a look (or the one before), amid its surroundings.
function step(direction) {
  const long = spans.filter(({rect, b, e}) => rect.matches('.wait') && e - b > whole / 2000);
  if (!long.length) return;
  at = at === null ? (direction > 0 ? 0 : long.length - 1)
                   : (at + direction + long.length) % long.length;
  const {rect, b, e} = long[at], margin = Math.max(4 * (e - b), whole / 40);
  view(b - margin, e + margin);
  requestAnimationFrame(() => {
    hide();
    rect.scrollIntoView({block: 'nearest'});
    const box = rect.getBoundingClientRect();
    rect.classList.add('shown');
    show(rect.dataset.tip, box.left, box.bottom);
  });
}

chart.addEventListener('wheel', event => {
  if (event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return pan(event.deltaX / width);
  const x = event.clientX - chart.getBoundingClientRect().left;
  const share = Math.min(1, Math.max(0, (x - left) / (width - left - right)));
  zoom(Math.exp(Math.sign(event.deltaY) * 0.2), from + share * (to - from));
}, {passive: false});
let held = null;
chart.addEventListener('pointerdown', event => {
  if (event.button) return;
  held = {x: event.clientX, from, to};
  chart.setPointerCapture(event.pointerId);
  chart.classList.add('dragged');
});
chart.addEventListener('pointermove', event => {
  if (held) {
    const moved = (held.x - event.clientX) / (width - left - right) * (held.to - held.from);
    return view(held.from + moved, held.to + moved);
  }
  hide();
  if (event.target.dataset.tip) show(event.target.dataset.tip, event.clientX, event.clientY);
});
for (const end of ['pointerup', 'pointercancel'])
  chart.addEventListener(end, () => { held = null; chart.classList.remove('dragged'); });
chart.addEventListener('pointerleave', hide);
chart.addEventListener('dblclick', () => view(0, whole));
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const action = {ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), '+': () => zoom(0.7),
    '=': () => zoom(0.7), '-': () => zoom(1 / 0.7), '0': () => view(0, whole),
    Home: () => view(0, whole), n: () => step(1), p: () => step(-1), Escape: hide}[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
/// Puts a newer step in the place of this one, unless somebody is looking into it.
async function refresh() {
  try {
    const response = await fetch(location.href, {cache: 'no-store'});
    if (response.ok && !held && !tip.textContent && from === 0 && to === whole) {
      const page = new DOMParser().parseFromString(await response.text(), 'text/html');
      for (const id of ['#figures', '.chart'])
        document.querySelector(id).replaceChildren(...page.querySelector(id).childNodes);
      take();
      draw();
    }
  } catch { /* the server is away: what was drawn stays */ }
  setTimeout(refresh, 1000);
}
addEventListener('resize', () => requestAnimationFrame(draw));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
take();
draw();
if ('live' in document.body.dataset) setTimeout(refresh, 1000);
)js";
}

}  // namespace farskip::measure
