#include "serve/page.h"

namespace farskip::serve {

std::string_view page_script() {
  return R"js(
'use strict';
const get = id => document.getElementById(id);
const log = get('log'), input = get('input'), send = get('send');
const chat = document.body.dataset.chat === 'yes';
let messages = [], under_way = null;

function add(role, name) {
  get('empty').hidden = true;
  const message = document.createElement('div'), who = document.createElement('b');
  const text = document.createElement('span'), note = document.createElement('small');
  message.className = `message ${role}`;
  who.textContent = name;
  message.append(who, text, note);
  log.append(message);
  log.scrollTop = log.scrollHeight;
  return {text, note};
}
function headers() {
  const key = get('key').value;
  return {'Content-Type': 'application/json', ...(key && {Authorization: `Bearer ${key}`})};
}
function body(prompt) {
  const common = {stream: true, stream_options: {include_usage: true},
    temperature: +get('temperature').value, top_p: +get('top_p').value,
    max_tokens: +get('max_tokens').value};
  if (!chat) return {...common, prompt};
  const system = get('system').value.trim();
  return {...common, messages: [...(system ? [{role: 'system', content: system}] : []),
    ...messages]};
}
/// Calls on_data with the data of every server-sent event.
async function read_events(response, on_data) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events)
      if (event.startsWith('data: ') && event !== 'data: [DONE]')
        on_data(JSON.parse(event.slice(6)));
  }
}
async function ask(prompt) {
  const began = performance.now();
  let first = null, usage = null, reason = null, answer = '';
  add('user', 'You').text.textContent = prompt;
  const shown = add('assistant', 'Model');
  messages.push({role: 'user', content: prompt});
  under_way = new AbortController();
  send.textContent = 'Stop';
  try {
    const response = await fetch(chat ? 'v1/chat/completions' : 'v1/completions',
      {method: 'POST', headers: headers(), body: JSON.stringify(body(prompt)),
       signal: under_way.signal});
    if (!response.ok) throw new Error((await response.json()).error.message);
    await read_events(response, data => {
      if (data.error) throw new Error(data.error.message);
      usage = data.usage || usage;
      for (const choice of data.choices) {
        const piece = (chat ? choice.delta.content : choice.text) || '';
        if (piece && first === null) first = performance.now();
        const at_end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        answer += piece;
        shown.text.append(piece);
        reason = choice.finish_reason || reason;
        if (at_end) log.scrollTop = log.scrollHeight;
      }
    });
  } catch (error) {
    if (error.name === 'AbortError') reason = 'stopped';
    else {
      shown.note.className = 'wrong';
      shown.note.textContent = error.message;
    }
  }
  // What was not answered is not part of the conversation.
  if (answer) messages.push({role: 'assistant', content: answer});
  else messages.pop();
  if (reason) shown.note.textContent = summary(reason, usage, began, first);
  under_way = null;
  send.textContent = 'Send';
  input.focus();
}
function summary(reason, usage, began, first) {
  const parts = [{length: 'cut at the limit of new tokens', stop: '', stopped: 'stopped'}[reason]];
  if (usage && first !== null) {
    const seconds = (performance.now() - first) / 1000, tokens = usage.completion_tokens;
    parts.push(`${tokens} tokens`, `first after ${duration((first - began) / 1000)}`);
    if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
  }
  return parts.filter(part => part).join(' · ');
}
const duration = seconds => seconds < 1 ? `${+(seconds * 1000).toPrecision(3)} ms`
                                        : `${+seconds.toPrecision(3)} s`;

get('form').addEventListener('submit', event => {
  event.preventDefault();
  if (under_way) return under_way.abort();
  const prompt = chat ? input.value.trim() : input.value;
  if (!prompt) return;
  input.value = '';
  ask(prompt);
});
input.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!under_way) get('form').requestSubmit();
});
get('clear').addEventListener('click', () => {
  if (under_way) under_way.abort();
  messages = [];
  for (const message of log.querySelectorAll('.message')) message.remove();
  get('empty').hidden = false;
  input.focus();
});

/// What /metrics says, by name.
async function figures() {
  const response = await fetch('metrics', {cache: 'no-store'});
  const values = {time: performance.now() / 1000};
  for (const line of (await response.text()).split('\n')) {
    const end = line.lastIndexOf(' ');  // a label may have spaces
    if (line && !line.startsWith('#')) values[line.slice(0, end)] = +line.slice(end + 1);
  }
  return values;
}
// The timeline renews itself, and is asked for only while it is open.
const steps = get('steps'), frame = steps.querySelector('iframe');
function show_steps() {
  frame.src = steps.open ? steps.querySelector('[aria-current]').href : 'about:blank';
}
for (const link of steps.querySelectorAll('a'))
  link.addEventListener('click', event => {
    event.preventDefault();
    steps.querySelector('[aria-current]').removeAttribute('aria-current');
    link.setAttribute('aria-current', 'true');
    show_steps();
  });
steps.addEventListener('toggle', show_steps);
frame.addEventListener('load', () => {
  const body = frame.contentDocument.body;
  const fit = () => { frame.style.height = `${Math.ceil(body.getBoundingClientRect().height)}px`; };
  new frame.contentWindow.ResizeObserver(fit).observe(body);
  fit();
});
show_steps();

let before = null;
const rates = [];
function show(now) {
  const at = name => now[`farskip_${name}`];
  const mean = name => at(`${name}_count`) ? duration(at(`${name}_sum`) / at(`${name}_count`)) : '–';
  get('running').textContent = at('sequences_running');
  get('queued').textContent = at('sequences_queued');
  get('ttft').textContent = mean('time_to_first_token_seconds');
  get('tbt').textContent = mean('time_between_tokens_seconds');
  const used = at('kv_pages_used'), pages = at('kv_pages');
  get('kv').value = pages ? used / pages : 0;
  get('kv-text').textContent = `${used} of ${pages} pages`;
  if (before) {
    const rate = name => Math.max(0, at(name) - before[`farskip_${name}`]) / (now.time - before.time);
    const generated = rate('generated_tokens_total');
    get('generated').textContent = generated.toFixed(generated < 10 ? 1 : 0);
    get('prompts').textContent = rate('prompt_tokens_total').toFixed(0);
    rates.push(generated);
    if (rates.length > 120) rates.shift();
    const most = Math.max(1, ...rates);
    get('history').querySelector('path').setAttribute('d', rates.map((value, i) =>
      `${i ? 'L' : 'M'}${120 - rates.length + i + 1} ${(39 - 37 * value / most).toFixed(2)}`).join(''));
  }
  before = now;
}
async function refresh() {
  try {
    show(await figures());
    get('state').textContent = '';
  } catch {
    get('state').textContent = 'The server does not answer.';
  }
  setTimeout(refresh, 1000);
}
refresh();
)js";
}

}  // namespace farskip::serve
