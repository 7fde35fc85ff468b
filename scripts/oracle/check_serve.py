"""Holds the server against the official openai client and against transformers. Ends with 1 if anything differs, with 77
without openai or transformers.

    .venv/bin/python scripts/oracle/check_serve.py [--binary B]

A random checkpoint is served, with a key: completions and chats, whole and streamed, say the same; errors arrive as the client's
exceptions; greedy tokens and the log-likelihoods of texts, asked for as lm_eval does, are those of transformers.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

try:
    import openai
    import reference
except ImportError as missing:
    print(f"check_serve: skipped: {missing}; .venv/bin/pip install openai==3.57.0 transformers==4.57.6 tokenizers==0.22.2 safetensors")
    sys.exit(77)
import torch

from binary import BUILT

ROOT = Path(__file__).resolve().parents[2]
NAME, KEY = "org/random-moe", "secret"  # a slash: the client escapes it in paths
TEXTS = ["It was the best of times", "The quick brown fox jumps over the lazy dog.", "naïve café — “quoted”", "a"]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Who goes there?"}]}]
LIMIT = 1e-3


def make_model(directory):
    config = json.loads((ROOT / "data/demo/config.json").read_text()) | {"num_hidden_layers": 3, "initializer_range": 0.1}
    reference.make_checkpoint(directory, config, 1)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "data/demo" / file, directory)


class Server:
    """The program, serving; as a context it is asked to stop at the end, and must do so with exit code 0."""
    def __init__(self, binary, model):
        command = [binary, "serve", model, "--port", "0", "--threads", "1", "--dtype", "float32", "--served-model-name", NAME]
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"FARSKIP_API_KEY": KEY})
        line = self.process.stdout.readline()
        if " at http://" not in line:
            raise SystemExit(f"check_serve: the server printed {line!r}")
        self.url = line.split(" at ")[1].strip() + "/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if code != 0:
            raise SystemExit(f"check_serve: the server ended with {code}")

    def client(self, key=KEY):
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)


def call(client, endpoint, **body):
    """An endpoint that is not OpenAI's."""
    url = str(client.base_url).replace("/v1/", f"/{endpoint}")
    request = urllib.request.Request(url, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {client.api_key}"})
    return json.load(urllib.request.urlopen(request))


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error.status_code, error.code, error.param
    raise AssertionError(f"{kind.__name__} was not raised")


def check_completions(client, model):
    common = dict(model=NAME, prompt=TEXTS[:2], max_tokens=12, temperature=0, logprobs=2)
    whole = client.completions.create(**common)
    stream = list(client.completions.create(**common, stream=True, stream_options={"include_usage": True}))
    assert stream[-1].usage == whole.usage and not stream[-1].choices
    for choice in whole.choices:
        pieces = [chunk.choices[0] for chunk in stream[:-1] if chunk.choices[0].index == choice.index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [choice.finish_reason]
        assert sum((piece.logprobs.tokens for piece in pieces if piece.logprobs), []) == choice.logprobs.tokens
        assert len(choice.logprobs.tokens) == len(choice.logprobs.text_offset) <= 12
    assert whole.usage.completion_tokens == sum(len(choice.logprobs.tokens) for choice in whole.choices)
    seeded = [client.completions.create(model=NAME, prompt="Once", max_tokens=8, seed=3, n=2).choices for _ in range(2)]
    assert [c.text for c in seeded[0]] == [c.text for c in seeded[1]] and seeded[0][0].text != seeded[0][1].text
    stop = whole.choices[0].text[3:6]
    stopped = client.completions.create(model=NAME, prompt=TEXTS[0], max_tokens=12, temperature=0, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.text == whole.choices[0].text.split(stop)[0]


def check_chats(client, model):
    common = dict(model=NAME, messages=MESSAGES, max_completion_tokens=10, temperature=0, logprobs=True, top_logprobs=3)
    whole = client.chat.completions.create(**common)
    message = whole.choices[0].message
    assert message.role == "assistant" and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    assert all(len(token.top_logprobs) == 3 for token in whole.choices[0].logprobs.content)
    stream = list(client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}))
    assert stream[0].choices[0].delta.role == "assistant" and stream[-1].usage == whole.usage
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream[:-1]) == message.content
    assert stream[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    # A conversation goes on with what came back.
    again = client.chat.completions.create(model=NAME, messages=[*MESSAGES, message, {"role": "user", "content": "And?"}], max_tokens=3)
    assert again.usage.prompt_tokens > whole.usage.prompt_tokens


def check_errors(client, model):
    chat = client.chat.completions.create
    assert raises(openai.BadRequestError, lambda: chat(model=NAME, messages=[])) == (400, "invalid_value", "messages")
    assert raises(openai.BadRequestError, lambda: chat(model=NAME, messages=MESSAGES, max_tokens=10**6))[1] == "context_length_exceeded"
    assert raises(openai.NotFoundError, lambda: chat(model="gpt-4", messages=MESSAGES))[1] == "model_not_found"
    assert raises(openai.BadRequestError, lambda: chat(model=NAME, messages=MESSAGES, extra_body={"x": 1}))[1:] == ("unknown_parameter", "x")
    stranger = client.with_options(api_key="wrong")
    assert raises(openai.AuthenticationError, lambda: stranger.models.list())[1] == "invalid_api_key"
    assert [entry.id for entry in client.models.list()] == [NAME] and client.models.retrieve(NAME).id == NAME


def check_likelihoods(client, model):
    """As lm_eval's local-completions: token ids, echo, one token more than is read."""
    prompts = [call(client, "tokenize", prompt=text)["tokens"] for text in TEXTS]
    answer = client.completions.create(model=NAME, prompt=prompts, temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True)
    for prompt, choice in zip(prompts, sorted(answer.choices, key=lambda choice: choice.index)):
        with torch.no_grad():
            theirs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        found = choice.logprobs
        assert found.token_logprobs[0] is None and len(found.token_logprobs) == len(prompt) + 1
        for k, token in enumerate(prompt[1:], 1):
            assert abs(found.token_logprobs[k] - theirs[k - 1, token].item()) < LIMIT, (prompt, k)
            greedy = found.token_logprobs[k] == max(found.top_logprobs[k].values())
            assert greedy == (theirs[k - 1].argmax().item() == token)


def check_greedy(client, model):
    for text in TEXTS:
        prompt = call(client, "tokenize", prompt=text)["tokens"]
        with torch.no_grad():
            theirs = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt):].tolist()
        shown = call(client, "detokenize", tokens=theirs)["prompt"].replace("<|endoftext|>", "")
        ours = client.completions.create(model=NAME, prompt=prompt, max_tokens=16, temperature=0).choices[0].text
        assert ours == shown, (text, ours, shown)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    binary = arguments.parse_args().binary
    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        make_model(Path(scratch))
        model = reference.load(scratch)
        with Server(binary, scratch) as server:
            for check in (check_completions, check_chats, check_errors, check_likelihoods, check_greedy):
                try:
                    check(server.client(), model)
                    wrong = None
                except (AssertionError, openai.OpenAIError) as error:
                    wrong = f"line {error.__traceback__.tb_next.tb_lineno}: {error!r}"
                print(f"{check.__name__.removeprefix('check_'):12} {wrong or 'ok'}", flush=True)
                bad += bool(wrong)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
