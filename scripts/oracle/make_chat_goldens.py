"""Writes tests/data/tokenizers/chat_templates.json: templates and what transformers renders from them.

    .venv/bin/pip install transformers==4.57.6 jinja2
    .venv/bin/python scripts/oracle/make_chat_goldens.py TOKENIZERS

TOKENIZERS holds deepseek_v3/tokenizer_config.json and qwen/tokenizer_config_qwen3.json. Beside these and the demo's, small
templates try one construct each. A case holds messages, add (the generation prompt), and text or error = true.
"""
import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template as compile_template

ROOT = Path(__file__).resolve().parents[2]

SNIPPETS = [
    # white space
    "a\n{% if true %}\nb\n{% endif %}\nc\n", "  {% if true %}  x  {% endif %}  \n\n", "x  {%- if true -%}  y  {%- endif %}  z", "{{ 1 }}\n{{ 2 }}\n\n",
    "a\n   {%+ if true %}b\n  {% endif +%}\nc", "a  {# note #}  \nb\n  {#- note -#}\n c", "a\r\nb\rc\r\n", "\n\n  {% set a = 1 %}\n  {{- a }}\n",
    "  {{ 'x' }}  \n  {% for i in [1, 2] %}\n    {{ i }}\n  {% endfor %}\nend", "{% if true -%}\n   \n  a{% endif %}", "{#- a -#}\n\n  {% set x = 2 %} {{ x }}",
    "a {% if true %}\n  {% if true %} b{% endif %}\n{% endif %}", "{{'a' -}}\n b {{- 'c'}}", "{# only #}\n", "{% if true %}{% endif %}\n   {% if true %}\nq{% endif %}",
    # literals and operators
    "{{ 'it\\'s' }}{{ \"\\n\\t\\\\\\u00e9\\x41\\q\" }}{{ 'a' 'b' }}", "{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }}",
    "{{ 1.5 + 1 }} {{ 2 - 0.5 }} {{ 1.0 }} {{ 0.1 }}", "{{ 'a' ~ 1 ~ none ~ true ~ x }}", "{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' <= 'b' }} {{ 1 == 1.0 }} {{ true == 1 }}",
    "{{ not true or true and false }} {{ 0 or 'x' }} {{ '' and 'y' }}|{{ [] or {} or 'z' }}", "{{ 'a' if false }}|{{ 'a' if true else 'b' }} {{ 1 if false else 2 if false else 3 }}",
    "{{ 'b' in 'abc' }} {{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 4 not in [1] }} {{ not 4 in [1] }} {{ 'a' in nothing }}", "{{ -1 }} {{ - 1 + 3 }} {{ +2 }} {{ -messages|length }}",
    "{{ 1 ~ 1 is number }} {{ 'a' + 'b' | upper }} {{ 'a' ~ 'b' | length }}", "{{ 2 * 3 ~ 4 }} {{ 1 ~ 2 + 3 ~ 4 }}", "{{ true }} {{ True }} {{ none }} {{ None }} {{ false }}",
    # lists, strings, dictionaries
    "{{ messages[0].role }} {{ messages[0]['role'] }} {{ messages[-1].role }} {{ messages[9] }}|{{ messages[0].nothing }}|", "{% for m in messages[::-1] %}{{ m.role }},{% endfor %}",
    "{% for m in messages[1:] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-2] }} {{ 'abcdef'[-2:] }} {{ 'abcdef'[:-2] }} {{ 'äöü'[1] }} {{ 'ab'[5:] }}|{{ 'abcdef'[4:1:-1] }} {{ 'abc'[-9:9] }} {{ 'abc'[9:-9:-1] }}",
    "{{ 'äöü' | length }} {{ [1, 2] | length }} {{ {'a': 1} | length }} {{ nothing | length }} {{ '' | length }}", "{{ ' x ' | trim }}|{{ 'aXb' | lower }}{{ 'aXb' | upper }}|{{ ['a', 1, none] | join('-') }}|{{ 'abc' | join }}",
    "{{ nothing | default('d') }} {{ '' | default('d') }}|{{ '' | default('d', true) }} {{ none | d('x', boolean=true) }}", "{{ [1, 2] | first }} {{ [1, 2] | last }} {{ 'xyz' | last }} {{ [] | first }}|",
    "{{ 'a.b.c'.split('.')[-1] }} {{ ' a  b '.split()[1] }} {{ 'xxaxx'.strip('x') }} {{ 'xxaxx'.lstrip('x') }} {{ 'xxaxx'.rstrip('x') }}|{{ '\\n a \\n'.strip() }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.endswith('abcd') }} {{ 'aaa'.replace('a', 'b') }} {{ 'aXb'.upper() }} {{ 'aXb' | replace('X', '') }}",
    "{{ messages[0].get('role') }} {{ messages[0].get('none') }} {{ messages[0].get('none', 7) }}", "{% for k, v in {'a': 1, 'b': 'c'}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}",
    "{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{% for x in [[1, 2], [3, 4]] %}{{ x[0] + x[1] }} {% endfor %}", "{{ [1, 'a', none, true, 1.5, {'k': 'é\"\\n'}] | tojson }}{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}",
    "{{ messages | tojson }}", "{{ ([1] + [2, 3]) | length }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }} {{ [1] == [true] }}",
    # statements
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% else %}none{% endfor %}", "{% for m in [] %}x{% else %}empty{% endfor %}{% for m in nothing %}x{% else %}undefined{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in range(3, 0, -1) %}{{ i }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
    "{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = 5 %}{{ a }}{% endfor %}{{ a }}", "{% set ns = namespace(n=0, s='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ m.role %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns.x }}",
    "{% if false %}a{% elif nothing %}b{% elif messages %}c{% else %}d{% endif %}", "{% set text %}  <{{ messages[0].role }}>\n{% endset %}{{ text | trim }}", "{% if messages[0].content is string and messages[0].tool_calls is not defined %}yes{% endif %}",
    "{{ 1 is number }}{{ 1 is integer }}{{ 1.5 is float }}{{ true is boolean }}{{ true is number }}{{ true is integer }}{{ none is none }}{{ x is undefined }}{{ {} is mapping }}{{ [] is iterable }}{{ 'a' is sequence }}{{ x is iterable }}",
    "{{ 1 is eq 1 }} {{ 2 is ne(1) }} {{ 'a' is in ['a'] }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 1 is equalto 2 }}", "{% for m in messages %}{% set content = m.content %}{{ content }}{% endfor %}{{ content }}|",
    "{% for c in 'añb' %}{{ c }}-{% endfor %}{{ loop }}|", "{% for i in [1,2] %}{% for j in [3,4] %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}", "{{ tools }} {{ tools is none }} {{ documents is defined }} {{ bos_token }}{{ eos_token }}",
    "{{ {'a': 'x', 'b': {'c': 'y'}}.b.c }}{{ {'}}': 1}['}}'] }}", "{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}{% set s = messages[0].content %}{% else %}{% set loop_messages = messages %}{% set s = false %}{% endif %}{% for m in loop_messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.first and s %}{{ '<<' + s + '>>' }}{% endif %}{{ '[' + m.role + '] ' + m.content | trim + eos_token }}{% endfor %}",
    # errors
    "{{ nothing.x }}", "{{ 'a' + 1 }}", "{{ 'a' + nothing }}", "{{ nothing + 'a' }}", "{{ none + 'a' }}", "{{ messages[0].nothing.more }}", "{{ 1 < 'a' }}", "{{ raise_exception('no') }}", "{% for i in 3 %}{% endfor %}", "{{ 1 // 0 }}", "{{ nothing() }}",
    "{% set x.y = 1 %}", "{{ 'a' in none }}", "{% for a, b in [[1]] %}{% endfor %}", "{{ 3 | length }}", "{% if %}{% endif %}", "{% if true %}", "{{ 'a }}", "{{ (1 }}", "{% endif %}", "{{ 1 1 }}", "{% break %}", "{# open", "{{ x | nofilter }}", "{{ x is notest }}",
]
LONG = [
    # in the manner of DeepSeek-V2, Moonlight, Qwen2.5 and Llama
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "{%- for message in messages -%}\n  {%- if loop.first and messages[0]['role'] != 'system' -%}\n    <|im_system|>system<|im_middle|>You help.<|im_end|>\n  {%- endif -%}\n  {%- if message['role'] == 'system' -%}\n    <|im_system|>\n  {%- endif -%}\n  {%- if message['role'] == 'user' -%}\n    <|im_user|>\n  {%- endif -%}\n  {%- if message['role'] == 'assistant' -%}\n    <|im_assistant|>\n  {%- endif -%}\n  {{ message['role'] }}<|im_middle|>\n  {%- if message['content'] is string -%}\n    {{ message['content'] + '<|im_end|>' }}\n  {%- else -%}\n    {%- for part in message['content'] -%}\n      {%- if part['type'] == 'image' or 'image' in part -%}\n        <|media|>\n      {%- else -%}\n        {{ part['text'] }}\n      {%- endif -%}\n    {%- endfor -%}\n    <|im_end|>\n  {%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n  <|im_assistant|>assistant<|im_middle|>\n{%- endif -%}\n",
    "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- else %}\n    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "{{ '<|begin|>' }}{% for message in messages %}\n{% set content = '<|' + message['role'] + '|>\\n\\n' + message['content'] | trim + '<|eot|>' %}\n{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\n{{ content }}\n{% endfor %}\n{% if add_generation_prompt %}\n{{ '<|assistant|>\\n\\n' }}\n{% endif %}\n",
]


def message(role, content):
    return {"role": role, "content": content}


CHATS = [
    [message("user", "Hello")],
    [message("system", "Be brief."), message("user", " Why? \n"), message("assistant", "Because.\n"), message("user", "日本 😀")],
    [message("user", "a"), message("assistant", "<think>\nhm\n</think>\n\nb"), message("user", "c"), message("assistant", "<think>x</think>d"), message("system", "late")],
    [message("assistant", "first"), message("user", "<tool_response>q</tool_response>"), message("assistant", "\n\nlast\n")],
    [message("system", "one"), message("system", "two"), message("user", "{{ not a tag }} {% nor this %}")],
    [],
]


def content_of(token):
    return token["content"] if isinstance(token, dict) else token


def cases(source, tokens, chats):
    for messages in chats:
        for add in (False, True):
            case = {"messages": messages, "add": add}
            try:
                given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": add}
                case["text"] = compile_template(source).render(**tokens, **given)
            except Exception:  # jinja2's own errors and Python's alike
                case["error"] = True
            yield case


def main():
    folder = Path(sys.argv[1])
    entries = []
    for name, path in [("deepseek_v3", folder / "deepseek_v3/tokenizer_config.json"), ("qwen3", folder / "qwen/tokenizer_config_qwen3.json"),
                       ("demo", ROOT / "data/demo/tokenizer_config.json")]:
        config = json.loads(path.read_text())
        tokens = {key: content_of(value) for key, value in config.items() if key in ("bos_token", "eos_token", "pad_token") and value}
        entries.append((name, config["chat_template"], tokens, CHATS))
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    entries += [(f"long {i}", source, tokens, CHATS) for i, source in enumerate(LONG)]
    entries += [(f"snippet {i}", source, tokens, CHATS[1:2]) for i, source in enumerate(SNIPPETS)]
    golden = [{"name": name, "source": source, "tokens": tokens, "cases": list(cases(source, tokens, chats))} for name, source, tokens, chats in entries]
    with open(ROOT / "tests/data/tokenizers/chat_templates.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=0)
        file.write("\n")
    count = [("text" in case) for entry in golden for case in entry["cases"]]
    print(f"{len(golden)} templates, {sum(count)} renderings, {len(count) - sum(count)} errors")


if __name__ == "__main__":
    main()
