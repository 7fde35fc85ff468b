"""What check_text.py asks: hard strings, conversations, and the files that stand around a vocabulary in model folders."""
import json
import random
import unicodedata
from pathlib import Path

WORDS = """the of and don't WE'LL you've I'M it's they'd 'tis 'S 'ſ 'LL'd rock'n'roll naïve café Straße ﬁn I'll'
ΑΒΓ ςσ привет мир שלום مرحبا नमस्ते ภาษาไทย 한국어 テスト ひらがな 漢字 中文测试 龥龦 İı ǅ ꙮ ﷽ e\u0301 o\u0308\u0323 \u1100\u1161\u11a8
return x+=1; def f(x): #include <a.h> a_b-c http://a.b/?c=d&e 3.14159 1,000,000 0x1F ²³ ½ Ⅷ ١٢٣ １２３ 12345678
ﬀ Å ﾊﾝｶｸ ㍿ ℌ ⅔ ǆ ẛ̣ camelCase HTTPServer snake_case ALLCAPS \u202bRTL\u202c a\u200db \u00ad""".split()
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", " " * 40,
          "\n" * 20, " \n ", "\t\t"]
EMOJI = ["😀", "👩‍💻", "👍🏽", "🇩🇪", "❤️", "☃", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©", "1️⃣", "👨‍👩‍👧‍👦"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("“”‘’«»…–—·、。！？（）「」€£¥§°±×÷←→∞≠")
CONTROL = [chr(c) for c in (0, 1, 7, 8, 27, 127, 0x9F, 0x200E, 0xFFFE, 0xFFFF, 0x10FFFF)]
CODE = ["def f(x):\n    return x  # 2\n", "#include <a.h>\n\tint main() { return 0; }\n", "if (a&&b||!c) { x->y[i++] <<= 2; }",
        '{"a": [1, 2.5e-3, null], "b": "\\u00e9"}', "<p class='x'>&amp;</p>", "SELECT * FROM t WHERE a='b';--"]
WHOLE = ["", " ", "\n", "a", " a", "a ", "  a  b  ", "it is n't . Yes , we do n't !", " .", "a ?", "do not 's", "\u0301", "▁", "▁a ▁", "a▁b",
         "<s>", "<s> a</s>", "</s>a", "<unk>", "<0x41>", "Ġ", "##a", "[CLS] a [SEP]", "a" * 3000, "ab " * 700, "漢" * 600, "1" * 400]


def assigned(points):
    """Left out are only code points without a character in the Unicode that Python knows: libraries may know different ones."""
    return [chr(point) for point in points if unicodedata.category(chr(point)) not in ("Cn", "Cs")]


class Writer:
    """Random strings; `added` are texts of the tokenizer's added tokens."""

    def __init__(self, seed, added=()):
        self.random = random.Random(seed)
        self.all = assigned(range(0x110000))
        self.low = assigned(range(0x3000))
        self.marks = [c for c in self.all if unicodedata.category(c)[0] == "M"]
        added = [text for text in added if text]
        self.added = [*added, "<|", "|>", "<｜", "｜>", *(text[:-1] for text in added[:20])]

    def piece(self):
        pick, some = self.random.choice, self.random.randrange
        kind = some(16)
        if kind < 4:
            return pick(WORDS)
        if kind < 6:
            return pick(SPACES)
        if kind == 6:
            return pick(EMOJI)
        if kind == 7:
            return pick(PUNCTUATION) * some(1, 4)
        if kind == 8:
            return "".join(pick("0123456789") for _ in range(some(1, 9)))
        if kind == 9:
            return pick(self.low) + "".join(pick(self.marks) for _ in range(some(3)))
        if kind == 10:
            return "".join(pick(self.all) for _ in range(some(1, 4)))
        if kind == 11:
            return pick(("", "", " ")) + pick(self.added) + pick(("", "", " "))
        if kind == 12:
            return pick(CONTROL)
        if kind == 13:
            return pick(CODE)
        return "".join(pick("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ'") for _ in range(some(1, 10)))

    def string(self):
        return "".join(self.piece() for _ in range(self.random.randrange(1, 12)))


def hard_strings(seed, count, added=()):
    """`count` strings: fixed ones, one that holds each added token between words, then random ones."""
    writer = Writer(seed, added)
    around = [f"a {text} b{text}c" for text in [*added][:40] if text]
    fixed = [*WHOLE, *around]
    return fixed + [writer.string() for _ in range(max(0, count - len(fixed)))]


def token(text, **changes):
    """A token as tokenizer_config.json spells it."""
    return {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False} | changes


def entry(text, **changes):
    """The same as an entry of added_tokens_decoder."""
    return {key: value for key, value in token(text, **({"special": True} | changes)).items() if key != "__type"}


CLASSES = ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "LlamaTokenizer", "Qwen2TokenizerFast", "Qwen2Tokenizer", "GPT2TokenizerFast",
           "GPT2Tokenizer", "GPTNeoXTokenizerFast", "GemmaTokenizerFast", "CohereTokenizerFast", "TokenizersBackend"]
MODEL_TYPES = ["deepseek_v2", "deepseek_v3", "qwen3_moe", "qwen2_moe", "mixtral", "llama4_text", "olmoe"]


def folders(bos, eos, word, size):
    """(name, {file: value}) of folders around a vocabulary of `size` tokens that has the special tokens `bos` and `eos` and the
    ordinary token `word`. A value of None is a file that is not there."""
    CONFIG, MAP, ADDED, MODEL = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"
    ends = {"bos_token": bos, "eos_token": eos}
    for name in CLASSES:
        for add_bos in (None, True, False):
            for add_eos in (None, True, False):
                flags = {"add_bos_token": add_bos, "add_eos_token": add_eos}
                yield (f"{name} bos={add_bos} eos={add_eos}",
                       {CONFIG: {"tokenizer_class": name, **ends, **{k: v for k, v in flags.items() if v is not None}}})
    for kind in MODEL_TYPES:
        yield f"no tokenizer_config, model_type {kind}", {MODEL: {"model_type": kind}}
        yield f"no class, model_type {kind}", {CONFIG: dict(ends), MODEL: {"model_type": kind}}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    llama = {"tokenizer_class": "LlamaTokenizerFast", **ends}
    yield "map alone", {CONFIG: fast, MAP: ends}
    yield "map alone, tokens as objects", {CONFIG: fast, MAP: {k: entry(v) for k, v in ends.items()}}
    yield "map differs", {CONFIG: {**fast, **ends}, MAP: {"bos_token": eos, "eos_token": word}}
    yield "map differs, decoder there", {CONFIG: {**fast, **ends, "added_tokens_decoder": {"0": entry(word)}}, MAP: {"eos_token": word}}
    yield "llama, map alone", {CONFIG: {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True}, MAP: ends}
    yield "additional", {CONFIG: {**fast, **ends, "additional_special_tokens": ["<|new|>", word]}}
    yield "additional in the map", {CONFIG: {**fast, **ends}, MAP: {"additional_special_tokens": ["<|new|>", entry("<|other|>")]}}
    yield "additional in both", {CONFIG: {**fast, **ends, "additional_special_tokens": ["<|new|>"]},
                                 MAP: {"additional_special_tokens": ["<|other|>"]}}
    for what, changes in {"plain": {}, "ordinary": {"special": False}, "lstrip": {"lstrip": True}, "rstrip": {"rstrip": True},
                          "single word": {"single_word": True}, "normalized": {"normalized": True, "special": False}}.items():
        decoder = {str(size): entry("<|new|>", **changes), str(size + 1): entry("newword", **changes)}
        yield f"decoder, {what}", {CONFIG: {**fast, **ends, "added_tokens_decoder": decoder}}
    yield "decoder changes a flag", {CONFIG: {**fast, **ends, "added_tokens_decoder": {"0": entry(word, lstrip=True)}}}
    yield "added_tokens.json", {CONFIG: {**fast, **ends}, ADDED: {"<|new|>": size}}
    yield "named tokens", {CONFIG: {**fast, **ends, "extra_special_tokens": {"image_token": "<|image|>", "video_token": word}}}
    yield "named tokens as a list", {CONFIG: {**fast, **ends, "extra_special_tokens": ["<|image|>", word]}}
    yield "named tokens of version 5", {CONFIG: {**fast, **ends, "model_specific_special_tokens": {"image_token": "<|image|>"}}}
    yield "unknown *_token", {CONFIG: {**fast, **ends, "image_token": "<|image|>"}}
    for key in ("split_special_tokens", "add_prefix_space", "clean_up_tokenization_spaces", "legacy", "use_default_system_prompt"):
        for value in (True, False):
            yield f"{key} {value}", {CONFIG: {**fast, **ends, key: value}}
            yield f"{key} {value}, llama", {CONFIG: {**llama, key: value}}
    yield "no eos", {CONFIG: {**fast, "bos_token": bos, "eos_token": None}}
    yield "pad and unk", {CONFIG: {**fast, **ends, "pad_token": eos, "unk_token": word}}
    yield "new bos", {CONFIG: {**fast, "bos_token": "<|first|>", "eos_token": eos}}
    yield "new bos as an object", {CONFIG: {**fast, "bos_token": token("<|first|>", lstrip=True), "eos_token": eos}}
    yield "llama, new bos", {CONFIG: {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<|first|>", "eos_token": eos}}
    yield "llama, unk null", {CONFIG: {"tokenizer_class": "LlamaTokenizerFast", **ends, "unk_token": None}}
    yield "gpt2, null tokens", {CONFIG: {"tokenizer_class": "GPT2Tokenizer", "unk_token": None, "bos_token": None}}
    yield "llama without tokens", {CONFIG: {"tokenizer_class": "LlamaTokenizerFast"}}


def as_transformers5_has_them(conversation):
    """With the changes that transformers 5 makes to messages before a template sees them, and 4.57 does not: keys that are
    null are left out, and what one of three names of reasoning says stands under two."""
    messages = []
    for message in conversation["messages"]:
        message = {key: value for key, value in message.items() if value is not None}
        reasoning = next((message[key] for key in ("reasoning_content", "thinking", "reasoning") if key in message), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        messages.append(message)
    return conversation | {"messages": messages}


def same_in_transformers5(base, name, files):
    """Whether transformers 5 means the same by these files. It does not, and 4.57's reading is the checkpoint's, where
    - add_bos_token or add_eos_token stands beside a tokenizer.json: 5 drops both, so that DeepSeek-V3 loses its BOS;
    - the class is one that 5 builds anew around the vocabulary (Llama, Qwen2, GPT-2, GPT-NeoX, Gemma, Cohere), with its own
      pre-tokenizer and normaliser in place of the file's, or is looked up by the model_type;
    - add_prefix_space is set for a generic class: 5 ignores it;
    - clean_up_tokenization_spaces is true and the model BPE: 5 ignores it, since text is lost;
    - a key ends in _token that is no special token's name: 5 takes it for one;
    - an added token stands behind a space of SentencePiece's: tokenizers 0.23 decodes the space, 0.22 does not.
    The class TokenizersBackend is 5's own: there 5 is right, with add_bos_token too."""
    config = files.get("tokenizer_config.json", {})
    if base == "like llama2" and name in ("decoder, normalized", "added_tokens.json"):
        return False
    if config.get("tokenizer_class") == "TokenizersBackend":
        return True
    plain = config.get("tokenizer_class") == "PreTrainedTokenizerFast"
    if config.get("clean_up_tokenization_spaces"):
        return False
    return plain and not config.keys() & {"add_bos_token", "add_eos_token", "add_prefix_space", "image_token"}


def write_folder(directory, tokenizer_json, files):
    """A model folder; tokenizer_json is text, or {file: bytes} of another kind of tokenizer."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer_json, dict):
        for name, content in tokenizer_json.items():
            (directory / name).write_bytes(content)
    else:
        (directory / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    for name, value in files.items():
        (directory / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return directory


def call(name, arguments, number="0"):
    return {"id": f"functions.{name}:{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a place\nnow <&> 'there'", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Städte"}, "unit": {"type": "string", "enum": ["°C", "°F"]},
            "days": {"type": ["integer", "null"], "default": 3}, "where": {"type": "object", "properties": {"lat": {"type": "number"}}},
            "tags": {"type": "array", "items": {"type": "string"}}}}}}
NOTHING = {"type": "function", "function": {"name": "nothing", "description": "Does nothing", "parameters": {"type": "object", "properties": {}}}}
SYSTEM, USER = {"role": "system", "content": "Be brief. 日本"}, {"role": "user", "content": "What's the weather like in Zürich? 😀"}
DICT_CALL = call("get_weather", {"city": "Zürich", "unit": "°C", "days": 2, "where": {"lat": 47.5}, "tags": ["a", "b"], "x": None, "y": True})
TEXT_CALL = call("get_weather", '{"city": "Zürich", "unit": "°C"}')


def conversations():
    """(name, what apply_chat_template is given)."""
    again = {"role": "user", "content": " And tomorrow? \n"}
    answer = {"role": "assistant", "content": "Sunny.\n"}
    thought = {"role": "assistant", "content": "Sunny.", "reasoning_content": "Look\nup.\n"}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "functions.get_weather:0", "content": '{"temp": 21, "ok": true}'}
    asks = lambda *calls, **more: {"role": "assistant", "content": "", "tool_calls": list(calls), **more}
    plain = {
        "user": [USER], "system": [SYSTEM, USER], "developer": [{"role": "developer", "content": "Be kind."}, USER],
        "turns": [SYSTEM, USER, answer, again, answer, {"role": "user", "content": "Thanks {{ x }} {% y %}"}],
        "ends with assistant": [USER, answer], "thinking": [SYSTEM, USER, thought, again],
        "thinking last": [USER, thought, again, thought], "think in text": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}, again],
        "other names of thinking": [USER, {"role": "assistant", "content": "x", "thinking": "hm"}, again, {"role": "assistant", "content": "y", "reasoning": "mh"}],
        "parts": [{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]}],
        "system parts": [{"role": "system", "content": [{"type": "text", "text": "S"}]}, {"role": "user", "content": [{"type": "text", "text": "U"}]},
                         {"role": "assistant", "content": [{"type": "text", "text": "A"}]}, USER],
        "image part": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        "late system": [USER, answer, SYSTEM, again], "empty content": [USER, {"role": "assistant", "content": ""}, again],
        "null content": [USER, {"role": "assistant", "content": None, "tool_calls": [TEXT_CALL]}, result],
        "two users": [USER, again], "unknown role": [{"role": "critic", "content": "Hm."}, USER]}
    tools = {
        "call, dict": [USER, asks(DICT_CALL), result, answer, again], "call, text": [SYSTEM, USER, asks(TEXT_CALL), result],
        "call, no content": [USER, {"role": "assistant", "tool_calls": [DICT_CALL]}, result],
        "two calls": [USER, asks(DICT_CALL, call("nothing", {}, "1"), content="Let me see."), result, {**result, "content": "none"}, answer],
        "thinking and call": [USER, asks(DICT_CALL, reasoning_content="I must ask."), result, thought, again],
        "result as parts": [USER, asks(DICT_CALL), {**result, "content": [{"type": "text", "text": "21"}]}]}
    for name, messages in plain.items():
        for add in (False, True):
            yield f"{name}, prompt {add}", {"messages": messages, "add_generation_prompt": add}
    for name, messages in tools.items():
        for given in ([WEATHER, NOTHING], None):
            yield f"{name}, tools {bool(given)}", {"messages": messages, "tools": given, "add_generation_prompt": True}
    yield "tools, user", {"messages": [USER], "tools": [WEATHER, NOTHING], "add_generation_prompt": True}
    yield "tools, system", {"messages": [SYSTEM, USER], "tools": [NOTHING]}
    yield "tools, empty list", {"messages": [USER], "tools": []}
    documents = [{"title": "T", "text": "Swiss <b>"}, {"doc_id": 2, "title": "U", "text": "Alps", "contents": "Alps"}]
    yield "documents", {"messages": [USER], "documents": documents, "add_generation_prompt": True}
    for variables in ({"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}, {"reasoning_effort": "high"}, {"date_string": "1 May 2026"},
                      {"bos_token": "<other>"}, {"custom": {"a": [1, 2.5, None]}}, {"preserve_thinking": True}, {"builtin_tools": ["python"]}):
        yield f"variables {json.dumps(variables)}", {"messages": plain["thinking"], "variables": variables, "add_generation_prompt": True}
    for name in ("ends with assistant", "thinking last"):
        yield f"goes on, {name}", {"messages": plain[name], "continue_final_message": True}
    yield "goes on, parts", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Sun "}]}], "continue_final_message": True}
    yield "goes on, spaces", {"messages": [USER, {"role": "assistant", "content": " Sun  "}], "continue_final_message": True}
    for name in ("turns", "ends with assistant", "thinking last"):
        yield f"mask, {name}", {"messages": plain[name], "mask": True}
    yield "mask, call", {"messages": tools["call, dict"], "tools": [WEATHER], "mask": True}
