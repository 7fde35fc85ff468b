"""Runs lm-evaluation-harness against the server and holds every number that it gets against transformers. Ends with 1 if
anything differs, with 77 without lm_eval, openai or transformers.

    .venv/bin/python scripts/oracle/check_lm_eval.py [--binary B] [--limit N]

The tasks are those of examples/lm_eval, over the samples in data/eval: log-likelihoods, which must be within 1e-3 of those of
transformers on the same random checkpoint, with the same "is it greedy", and greedy generation, which must be the same text.
Tokens are the server's (tokenizer_backend=remote), so that nothing but the server knows the model.
"""
import argparse
import os
import sys
import tempfile
from pathlib import Path

import check_serve  # ends with 77 where openai or transformers are missing

os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": check_serve.KEY, "TQDM_DISABLE": "1"}
try:
    import lm_eval
    from lm_eval.tasks import TaskManager
except ImportError as missing:
    print(f"check_lm_eval: skipped: {missing}; .venv/bin/pip install lm_eval==0.4.13 aiohttp tenacity")
    sys.exit(77)
import reference
import torch

TASKS = check_serve.ROOT / "examples" / "lm_eval"
LIMIT = check_serve.LIMIT


def evaluate(server, limit):
    """Every task's samples, and the model that they went through, which knows the tokens."""
    client = lm_eval.api.registry.get_model("local-completions")(
        model=check_serve.NAME, base_url=f"{server.url}/completions", tokenizer_backend="remote", auth_token=check_serve.KEY,
        num_concurrent=4, max_length=2048)
    names = sorted(f"sample_{file.stem}" for file in TASKS.glob("*.yaml") if file.stem != "multiple_choice")
    os.chdir(check_serve.ROOT)  # the tasks' files are named from there
    results = lm_eval.simple_evaluate(client, tasks=names, task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
                                      limit=limit, log_samples=True, bootstrap_iters=0)
    return results["samples"], client


def likelihoods(sample, client, model):
    """The largest difference over the choices of a sample."""
    worst = 0.0
    for request, ((found, greedy),) in zip(sample["arguments"], sample["resps"]):
        context, continuation = client._encode_pair(*request)
        with torch.no_grad():
            logits = model(torch.tensor([context + continuation])).logits[0, len(context) - 1:-1].log_softmax(-1)
        target = torch.tensor(continuation)
        worst = max(worst, abs(found - logits.gather(1, target[:, None]).sum().item()))
        assert greedy == bool((logits.argmax(-1) == target).all()), (sample["doc_id"], continuation)
    return worst


def same_text(sample, client, model):
    (prompt, settings), = sample["arguments"]
    tokens = client.tok_encode(prompt)
    with torch.no_grad():
        theirs = model.generate(torch.tensor([tokens]), max_new_tokens=settings["max_gen_toks"], do_sample=False)[0, len(tokens):]
    text = client.tokenizer.decode(theirs.tolist())
    for stop in (*settings["until"], client.eos_string):
        text = text.split(stop)[0]
    assert sample["resps"][0][0] == text, (sample["doc_id"], sample["resps"][0][0], text)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=check_serve.BUILT, help="the program (default: build/farskip)")
    arguments.add_argument("--limit", type=int, default=3, help="samples of a task (default: 3)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        check_serve.make_model(Path(scratch))
        model = reference.load(scratch)
        with check_serve.Server(given.binary, scratch) as server:
            samples, client = evaluate(server, given.limit)
            for task, found in samples.items():
                assert len(found) == given.limit, (task, len(found))
                generates = task == "sample_gsm8k"
                try:
                    differences = [(same_text if generates else likelihoods)(sample, client, model) for sample in found]
                    worst = None if generates else max(differences)
                    wrong = worst is not None and worst >= LIMIT
                    verdict = "ok, same texts" if worst is None else f"{'DIFFERS' if wrong else 'ok'}, at most {worst:.1e} apart"
                except AssertionError as error:
                    wrong, verdict = True, f"DIFFERS: {error}"
                print(f"{task:22} {verdict}", flush=True)
                bad += wrong
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
