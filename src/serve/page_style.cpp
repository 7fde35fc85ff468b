#include "serve/page.h"

namespace farskip::serve {

// The colours of the timeline pages.
std::string_view page_style() {
  return R"css(
:root { color-scheme: light dark;
  --page: #f4f6f8; --card: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #d9dfe5;
  --accent: #2f6299; --on-accent: #ffffff; --mine: #e3ecf6; --wrong: #b3161f; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b212a; --ink: #e6ebf0; --soft: #9fb0c0; --line: #303a46;
  --accent: #8db3dc; --on-accent: #12161c; --mine: #243447; --wrong: #ff7b82; } }
* { box-sizing: border-box }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--page);
  color: var(--ink); font: 15px/1.5 Helvetica, Arial, "DejaVu Sans", sans-serif }
header { display: flex; align-items: baseline; gap: 12px; padding: 14px 24px 10px }
header span, .caption { color: var(--soft) }
h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 15px; margin: 0 0 10px }
main { flex: 1 0 440px; min-height: 0; display: grid; grid-template: minmax(0, 1fr) / minmax(0, 1fr) 280px;
  gap: 16px; padding: 0 24px 16px }
section, aside { background: var(--card); border: 1px solid var(--line); border-radius: 8px }
section { display: flex; flex-direction: column; min-height: 0 }
aside { padding: 16px; overflow: auto }
#log { flex: 1; overflow: auto; padding: 20px; border-radius: 8px }
#empty { color: var(--soft); text-align: center; margin-top: 18vh }
.message { max-width: 46em; margin: 0 0 14px; white-space: pre-wrap; overflow-wrap: anywhere }
.message b { display: block; font-size: 12px; font-weight: 600; color: var(--soft) }
.message.user { background: var(--mine); border-radius: 8px; padding: 8px 14px; margin-left: auto;
  width: fit-content }
.message small { display: block; color: var(--soft); font-size: 12px; margin-top: 2px }
.message .wrong { color: var(--wrong) }
form { display: flex; gap: 8px; padding: 12px; border-top: 1px solid var(--line) }
textarea, input { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line);
  border-radius: 6px; padding: 7px 10px; width: 100% }
#input { flex: 1; resize: none }
button { font: inherit; padding: 0 18px; border-radius: 6px; border: 1px solid var(--accent);
  background: var(--accent); color: var(--on-accent); cursor: pointer }
#clear { background: none; color: var(--accent) }
button:disabled { opacity: 0.5; cursor: default }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px }
dl { display: grid; grid-template-columns: 1fr 1fr; gap: 10px 14px; margin: 0 0 12px }
.figure { display: flex; flex-direction: column-reverse; justify-content: flex-end }
dt { color: var(--soft); font-size: 12px; line-height: 1.3 }
dd { margin: 0; font-size: 20px; line-height: 1.3; white-space: nowrap; font-variant-numeric: tabular-nums }
#history { width: 100%; height: 44px; display: block; border-bottom: 1px solid var(--line) }
#history path { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke }
.caption { font-size: 12px; margin: 4px 0 14px }
meter { width: 100%; height: 14px }
label { font-size: 13px }
#kv-text { color: var(--soft); float: right }
details { border-top: 1px solid var(--line); padding-top: 10px }
summary { cursor: pointer; font-weight: 600 }
.settings { display: grid; gap: 4px; padding-top: 8px }
.settings input, .settings textarea { margin-bottom: 6px }
#steps { flex: none; margin: 0 24px 20px; padding: 10px 0 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--page) }
#steps summary { padding: 0 16px 10px }
nav { display: flex; gap: 8px; padding: 0 16px }
nav a { padding: 2px 12px; border: 1px solid var(--line); border-radius: 6px; color: inherit; text-decoration: none }
nav a[aria-current] { background: var(--accent); border-color: var(--accent); color: var(--on-accent) }
iframe { display: block; width: 100%; height: 0; border: 0 }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
@media (max-width: 760px) {
  body { height: auto; min-height: 100vh }
  header, main { padding-left: 12px; padding-right: 12px }
  main { flex: none; grid-template: none / minmax(0, 1fr) }
  #steps { margin-left: 12px; margin-right: 12px }
  #log { min-height: 50vh } }
)css";
}

}  // namespace farskip::serve
