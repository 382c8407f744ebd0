"""Writes what Transformers (5.23) renders from chat templates that use what published ones use.

python templates.py templates.json
"""

import datetime
import json
import sys

from transformers.utils import chat_template_utils

MESSAGES = [
    {"role": "system", "content": "You are é."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What <is> 'this' & \"that\"?\n"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "<think>\nhm\n</think>\n\n An answer. "}]},
    {"role": "user", "content": [{"type": "text", "text": "More."}, {"type": "image"}, {"type": "image"}]},
]
TEXTS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": ""}]
TOOL = {"name": "measure", "parameters": {"size": 1.5, "units": ["mm", "é"], "deep": {}, "none": None, "yes": True}}
TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{% endfor %}",
    # blocks, comments and white space
    "a\n{% if true %}\n  b\n{% endif %}\n  {# comment #}\nc {%- if true -%} \n d \n {%- endif %} e\n  {% if true %} f{% endif %}\n{{ 'x' }}\n\n",
    "  {%- for m in messages %}\n    {{- m.role }}\n  {%- endfor %}\n\n tail\n",
    "{%+ if true %}x{% endif +%}\n y\n",
    # parts and strings
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' or 'image' in p or 'image_url' in p %}<image>{% elif 'text' in p %}{{ p.text | trim }}{% endif %}"
    "{% endfor %}{% endif %}|{% endfor %}",
    "{% for m in messages %}{% set parts = m.content | selectattr('type', 'equalto', 'text') | list if m.content is not string else [] %}"
    "{{ parts | length }}{{ parts | map(attribute='text') | join('+') }}{% endfor %}",
    # namespaces, counters, loops
    "{% set ns = namespace(count=0, last='') %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.count = ns.count + 1 %}"
    "{% set ns.last = m.role %}{% endif %}{% endfor %}{{ ns.count }} {{ ns.last }}",
    "{% for m in messages[::-1] %}{% if loop.index0 == 2 %}{% break %}{% endif %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{{ loop.last }}{% endfor %}",
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.revindex }} {{ (loop.nextitem | default({'role': 'end'})).role }}"
    "{% if loop.previtem is defined and loop.previtem.role == m.role %} same{% endif %};{% endfor %}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}{{ loop_messages | length }} {{ system }}",
    "{% if (messages[0].role == 'user') != (0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}ok",
    "{{ raise_exception('no: ' + messages[0].role) }}",
    # the reasoning of an assistant, taken out
    "{% for m in messages %}{% if m.role == 'assistant' %}{% set c = m.content[0].text if m.content is not string else m.content %}"
    "{% if '</think>' in c %}[{{ c.split('</think>')[-1].lstrip('\\n') }}][{{ c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') }}]{% endif %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.role }}\n{% endgeneration %}\n{%- generation -%} x {%- endgeneration %}{% else %}-{% endif %}{% endfor %}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    # macros
    "{% macro show(part, upper=false) %}{% if upper %}{{ part.upper() }}{% else %}{{ part }}{% endif %}{% endmacro %}{% for m in messages %}{{ show(m.role) }}{{ show(m.role, upper=true) }}{% endfor %}",
    # tojson
    "{{ tool | tojson }}\n{{ tool | tojson(indent=4) }}\n{{ tool | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}{{ '<&>' | tojson }}{{ [] | tojson }}",
    # printing
    "{{ true }} {{ none }} {{ 1.0 }} {{ 1e20 }} {{ 0.00001 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ [1, 'a\\'b', none, 2.5] }} {{ {'a': true} }} {{ tool }}",
    "{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing | default('d') }}|{{ none | default('d') }}|{{ '' | default('d', true) }}",
    "{{ undefined_thing.attribute }}",
    "{{ messages[0].nothing }}|{{ messages[0]['nothing'] }}|{{ messages[9] }}",
    "{{ 1 ~ 'a' ~ true ~ none }} {{ 'a' * 3 }} {{ 'a,b'.split(',') }} {{ [1] + [2] }} {{ 'abc'[1:] }} {{ 'abc'[-1] }} {{ (1, 2) }}",
    # methods
    "{{ ' a b '.strip() }}|{{ 'xay'.lstrip('x').rstrip('y') }}|{{ 'a-b'.replace('-', '+') }}|{{ 'ab'.startswith('a') }}|{{ 'ab'.endswith(('a', 'b')) }}|{{ 'hello world'.title() }}|{{ 'hELLO'.capitalize() }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.txt'.removesuffix('.txt') }}|{{ 'a=b=c'.partition('=') }}|{{ 'a=b=c'.rpartition('=')[0] }}|{{ 'a b c'.rsplit(' ', 1) }}|{{ 'abc'.find('c') }}|{{ '7'.zfill(3) }}|{{ 'a'.center(4) }}b|{{ 'a b'.split() }}",
    "{% for k, v in tool.items() %}{{ k }}={{ v }};{% endfor %}{{ tool.keys() | list }}{{ tool.get('absent', 3) }}{{ tool.get('name') }}{{ 'name' in tool }}{% for k in tool.parameters | dictsort %}{{ k[0] }}{% endfor %}",
    "{{ messages | length }} {{ messages | first | string | length > 3 }} {{ 'abc' | upper }} {{ [3, 1, 2] | sort | join(',') }} {{ messages[0].content | last | tojson }} {{ 'a\nb' | indent(2) }} {{ [1, 2, 3] | reject('equalto', 2) | list }}",
    "{{ tool is mapping }} {{ tool is iterable }} {{ messages is sequence }} {{ 'x' is string }} {{ none is none }} {{ 1 is number }} {{ tool.name in ['measure'] }} {{ not tools }} {{ tools is none }} {{ 3 is odd }} {{ true is sameas true }}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M') }}",
    "{% if add_generation_prompt %}<start>assistant\n{% endif %}{{ eos_token }}{{ image_token }}",
    "{% set a %}block {{ messages | length }}{% endset %}{{ a }}{% with b = 2 %}{{ b }}{% endwith %}{% raw %}{{ x }}{% endraw %}{{ '{%' }}{{ '%}' }}",
    "{% for x in range(3) %}{{ x }}{% else %}none{% endfor %}{% for x in [] %}{% else %}none{% endfor %}{{ dict(a=1).a }}{{ 'yes' if messages else 'no' }}{{ 'only' if false }}|",
    "{%- set image_count = namespace(value=0) -%}{%- for m in messages -%}{%- if m.content is not string -%}{%- for c in m.content -%}{%- if c.type == 'image' -%}"
    "{%- set image_count.value = image_count.value + 1 -%}Picture {{ image_count.value }}: {%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}",
    "{{ messages | map(attribute='role') | unique | list }} {{ messages | selectattr('role', 'in', ['user']) | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join }}",
    "{{ '%s has %d' | format('a', 3) }} {{ 'a{}b'.format(1) }} {{ [[1, 2], [3]] | sum(start=[]) }} {{ 'x' ~ (3 | string) }} {{ '5' | int + 1 }} {{ 2.7 | int }} {{ 2.345 | round(1) }}",
]


class Time(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 7, 9, 5, 1)


def main():
    chat_template_utils.datetime = Time
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<image>"}
    out = []
    for messages in (MESSAGES, TEXTS):
        for template in TEMPLATES:
            arguments = {"add_generation_prompt": messages is MESSAGES, "tool": TOOL}
            case = {"template": template, "messages": messages, "arguments": arguments, "tokens": tokens}
            try:
                rendered, _ = chat_template_utils.render_jinja_template(
                    conversations=[messages], chat_template=template, **arguments, **tokens
                )
                case["expected"] = rendered[0]
            except Exception as error:
                case["error"] = type(error).__name__
            out.append(case)
    with open(sys.argv[1], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


if __name__ == "__main__":
    main()
