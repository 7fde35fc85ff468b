#include "measure/timeline_assets.h"

namespace farskip::measure {

// The colours of docs/images/idea.svg; red is for waiting alone.
std::string_view timeline_style() {
  return R"css(
:root { color-scheme: light dark;
  --page: #f4f6f8; --card: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #d9dfe5; --lane: #eceff3;
  --attention-a: #7ba2cc; --attend: #4c78a8; --dense: #7f9a3a; --route: #9aa5b1; --experts: #e4873d;
  --combine-part: #d3ac3f; --shared: #58a066; --head: #a1785c; --last-gradients: #6c7a89; --optimizer: #b0587d;
  --reduction: #6f8f3a;
  --dispatch: #8e6bbf; --combine: #2b9a9a; --dispatch-back: #bca5de; --combine-back: #8accca;
  --wait: #e0202c; --stripe: #ffffffc0; --label: #ffffff; --label-dark: #1f2933; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b212a; --ink: #e6ebf0; --soft: #9fb0c0; --line: #303a46; --lane: #242c37;
  --attention-a: #8db3dc; --attend: #5583b5; --dense: #869f46; --route: #8390a0; --experts: #d97d35;
  --combine-part: #c8a33c; --shared: #58a066; --head: #a37d63; --last-gradients: #728192; --optimizer: #b9658a;
  --reduction: #7c9a48;
  --dispatch: #9673c9; --combine: #2f9d9d; --dispatch-back: #c3aee4; --combine-back: #93d2d0;
  --wait: #ff3b45; --stripe: #12161ca0; } }
* { box-sizing: border-box }
body { margin: 0; padding: 24px 28px; background: var(--page); color: var(--ink);
  font: 14px/1.45 Helvetica, Arial, "DejaVu Sans", sans-serif }
h1 { font-size: 22px; margin: 0 0 4px }
p { margin: 2px 0; color: var(--soft); max-width: 100ch }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 16px 0 }
.card, .chart { background: var(--card); border: 1px solid var(--line); border-radius: 8px }
.card { padding: 10px 14px }
.card b { display: block; font-size: 26px; line-height: 1.25 }
.card.exposed b { color: var(--wait) }
.card span { color: var(--soft) }
.card small { display: block; color: var(--soft); font-size: 12.5px }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; margin: 0 0 10px; font-size: 13px;
  color: var(--soft) }
.legend b { color: var(--ink) }
.legend svg { width: 16px; height: 12px; vertical-align: -1px; margin-right: 5px }
.chart { padding: 8px 0; outline-offset: 2px; cursor: grab; touch-action: pan-y; overflow: hidden }
.chart:focus-visible { outline: 2px solid var(--attend) }
.chart.dragged { cursor: grabbing }
.chart svg { display: block; user-select: none; -webkit-user-select: none }
text { fill: var(--soft); font-size: 12px }
text.rank { fill: var(--ink); font-weight: bold; font-size: 13px }
text.in { fill: var(--label); font-size: 11px; pointer-events: none; text-anchor: middle }
text.in.dark { fill: var(--label-dark) }
text.layer, text.tick { font-size: 11px; pointer-events: none; text-anchor: middle }
line { stroke: var(--line) }
.lane { fill: var(--lane) }
rect.layer { fill: var(--lane) }
.attention-a { fill: var(--attention-a) } .attend { fill: var(--attend) }
.dense { fill: var(--dense) } .route { fill: var(--route) } .experts { fill: var(--experts) }
.combine-part { fill: var(--combine-part) } .shared { fill: var(--shared) }
.head { fill: var(--head) } .last-gradients { fill: var(--last-gradients) }
.optimizer { fill: var(--optimizer) }
.dispatch { fill: var(--dispatch) } .combine { fill: var(--combine) }
.reduction { fill: var(--reduction) }
.dispatch.back { fill: var(--dispatch-back) } .combine.back { fill: var(--combine-back) }
.fill { fill: url(#stripes) } .stripe { fill: var(--stripe) }
.wait, .exposed-part { fill: var(--wait) }
rect[data-tip]:hover, rect.shown { filter: brightness(1.15); stroke: var(--ink) }
#tip { position: fixed; z-index: 1; max-width: 46ch; padding: 6px 10px; border-radius: 6px;
  background: var(--ink); color: var(--page); font-size: 13px; white-space: pre-line;
  pointer-events: none }
#tip::first-line { font-weight: bold }
#tip:empty { display: none }
.help { margin-top: 10px; font-size: 13px }
.chart:not(:has(rect[data-b])), .chart:not(:has(rect[data-b])) + .help { visibility: hidden }
@media (max-width: 760px) { body { padding: 12px } h1 { font-size: 18px }
  .cards { grid-template-columns: 1fr 1fr; gap: 8px } .card { padding: 8px 10px }
  .card b { font-size: 20px } .help { display: none } }
kbd { padding: 0 5px; border: 1px solid var(--line); border-radius: 4px; background: var(--card);
  font: inherit; color: var(--ink) }
)css";
}

}  // namespace farskip::measure
