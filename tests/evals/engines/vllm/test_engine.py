import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from places import TESTS
from psomerge.evals.engines.engine import Answers, Batch, Generation, Loglikelihood
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.transformers_engine import TransformersEngine
from psomerge.evals.engines.vllm.checks import Swap, canary_fault
from psomerge.evals.engines.vllm.engine import environment
from psomerge.evals.engines.vllm.scoring import plan
from runs.engine_cases import BLOCK, SETTINGS, Hearing, begins, exam, family, materialised, mixed, plain, questions

pytestmark = pytest.mark.heavy

A, B = mixed(0.7, 0.4), mixed(-0.3, 1.1)


def supervised(folders: dict[str, Path], root: Path, name: str) -> SupervisedEngine:
    engine = SupervisedEngine(folders, "vllm", SETTINGS, work=root / name, log=root / f"{name}.log")
    engine.put("exam", exam())
    return engine


def results(answers: Answers) -> tuple:
    return answers.loglikelihood, answers.generation


def long_exam() -> Batch:
    """Takes several steps; its texts end one after the other."""
    texts = tuple(Generation(tuple(range(40, 52)), (), 4 * number) for number in range(1, 7))
    return Batch(tuple(request for item in questions(200) for request in item), texts)


REQUESTS = 200 * 4 + 6


def written(folders: dict[str, Path], context: tuple[int, ...]) -> tuple[int, ...]:
    """The first three tokens that A writes, found by the reference engine one at a time."""
    reference = TransformersEngine(folders, SETTINGS)
    reference.load(A)
    made: tuple[int, ...] = ()
    for _ in range(3):
        answers = reference.loglikelihood([Loglikelihood(context, (*made, token)) for token in range(256)])
        made += (next(token for token, answer in enumerate(answers) if answer.greedy),)
    return made


def greedy_and_not(folders: dict[str, Path]) -> Batch:
    """Continuations that A would give, and others."""
    context = questions()[4][0].context
    made = written(folders, context)
    other = [(token + 1) % 256 for token in made]
    return Batch(
        tuple(
            Loglikelihood(context, continuation)
            for continuation in (made, (*made[:2], other[2]), made[:1], (other[0],))
        )
    )


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def swapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Answers of one engine to A, B, A, and of a fresh one on B's checkpoint; bf16 checkpoints, float32 engines."""
    root = tmp_path_factory.mktemp("swapped")
    folders = family(root, tied=request.param)
    engine = supervised(folders, root, "swapped")
    engine.put("greedy", greedy_and_not(folders))
    answers = {
        "greedy": engine.judge(A, "greedy"),
        "first A": engine.judge(A, "exam"),
        "B": engine.judge(B, "exam"),
        "second A": engine.judge(A, "exam"),
    }
    engine.put("long", long_exam())
    hearing = {
        "all": Hearing(range(1, REQUESTS)),
        "scored": Hearing(range(60, REQUESTS), 1),
        "written": Hearing(range(REQUESTS - 5, REQUESTS), 1),
    }
    answers["long"] = engine.judge(A, "long")
    answers |= {f"heard {name}": engine.judge(A, "long", hears) for name, hears in hearing.items()}
    answers |= {
        "long B": engine.judge(B, "long"),
        "stopped B": engine.judge(B, "long", hearing["scored"]),
        "last A": engine.judge(A, "long"),
    }
    capabilities = engine.capabilities
    engine.close()
    fresh = supervised({"base": materialised(root / "b", folders, B)}, root, "fresh")
    answers["fresh B"] = fresh.judge(plain(), "exam")
    fresh.close()
    return answers | {"folders": folders, "capabilities": capabilities, "hearing": hearing}


def test_answers_after_a_swap_equal_a_fresh_engine_on_the_written_checkpoint_bit_for_bit(swapped: dict) -> None:
    assert results(swapped["B"]) == results(swapped["fresh B"])
    assert results(swapped["B"]) != results(swapped["first A"])


def test_a_model_that_comes_back_answers_with_the_same_bits(swapped: dict) -> None:
    assert results(swapped["second A"]) == results(swapped["first A"])


def test_who_listens_changes_no_bit_and_hears_each_beginning_of_the_answers(swapped: dict) -> None:
    whole, heard = swapped["long"], swapped["hearing"]["all"].heard
    assert results(swapped["heard all"]) == results(whole)
    assert len(heard) > 5
    assert all(begins(whole, part) for part in heard)
    lengths = [len(part.loglikelihood) + len(part.generation) for part in heard]
    assert lengths == sorted(set(lengths))
    assert lengths[1] < len(whole.loglikelihood)
    assert lengths[-1] > len(whole.loglikelihood)
    assert swapped["heard all"].tokens == whole.tokens


@pytest.mark.parametrize("stopped", ["heard scored", "heard written"])
def test_a_judgement_that_is_stopped_gives_the_bits_of_the_whole_one_for_fewer_tokens(
    swapped: dict, stopped: str
) -> None:
    assert begins(swapped["long"], swapped[stopped])
    assert len(swapped[stopped].loglikelihood) + len(swapped[stopped].generation) < REQUESTS
    assert 0 < swapped[stopped].tokens < swapped["long"].tokens


def test_after_a_judgement_that_was_stopped_the_next_models_answer_as_ever(swapped: dict) -> None:
    assert begins(swapped["long B"], swapped["stopped B"])
    assert results(swapped["long B"]) != results(swapped["long"])
    assert results(swapped["last A"]) == results(swapped["long"])


def test_tokens_are_those_that_no_cache_had(swapped: dict) -> None:
    # Fewer than all prompts with a token each, as of what begins alike only the end is computed; more than the
    # different contexts hold.
    planned = plan(long_exam().loglikelihood, BLOCK)
    assert sum(map(len, {request.context for request in long_exam().loglikelihood})) < swapped["long"].tokens
    assert swapped["long"].tokens < sum(len(prompt) + 1 for prompt in planned.prompts) + sum(
        len(one.prompt) + 24 for one in long_exam().generation
    )


def test_the_engine_says_what_it_computes_with(swapped: dict) -> None:
    assert (swapped["capabilities"].name, swapped["capabilities"].dtype, swapped["capabilities"].threads) == (
        "vllm",
        "float32",
        1,
    )


def test_every_phase_of_a_judgement_is_timed(swapped: dict) -> None:
    assert set(swapped["B"].seconds) == {"merge", "load", "reset", "canary", "score"}
    assert all(seconds > 0 for seconds in swapped["B"].seconds.values())
    assert swapped["B"].peak_bytes > 2**27  # python with torch alone is larger


def test_transformers_gives_the_same_answers(swapped: dict) -> None:
    engine = TransformersEngine(swapped["folders"], SETTINGS)
    engine.load(B)
    batch, ours = exam(), swapped["B"]
    theirs = engine.loglikelihood(batch.loglikelihood)
    assert [answer.logprob for answer in ours.loglikelihood] == pytest.approx(
        [answer.logprob for answer in theirs], abs=1e-4, rel=0
    )
    for item in range(len(questions())):
        four = slice(4 * item, 4 * item + 4)
        ranked = sorted(answer.logprob for answer in theirs[four])
        if ranked[-1] - ranked[-2] > 1e-4:
            assert best(ours.loglikelihood[four]) == best(theirs[four])
    assert list(ours.generation) == engine.generate(batch.generation)


def best(answers: tuple | list) -> int:
    return max(range(len(answers)), key=lambda i: answers[i].logprob)


def test_greedy_is_told_of_a_continuation_that_the_model_would_give(swapped: dict) -> None:
    # Three tokens of the reference's own argmax, the same with another last token; one token, and another one.
    assert [answer.greedy for answer in swapped["greedy"].loglikelihood] == [True, False, True, False]


SABOTAGE = """
import json, sys
from pathlib import Path
from runs.engine_cases import SETTINGS, exam, mixed, family
from psomerge.evals.engines.engine import Generation, Loglikelihood
from psomerge.evals.engines.vllm import transfer
from psomerge.evals.engines.vllm.engine import VllmEngine
from psomerge.merge.basis import Basis
from psomerge.errors import ConfigError, EngineError

root = Path(sys.argv[1])
folders = {name: root / name for name in ("base", "first", "second")}
engine = VllmEngine(folders, SETTINGS, root)
worker = engine._llm.collective_rpc(lambda worker: worker)[0]
model = worker.model_runner.get_model()
A, B = mixed(0.7, 0.4), mixed(-0.3, 1.1)
batch = exam()

def answers(recipe):
    engine.load(recipe)
    return engine.loglikelihood(batch.loglikelihood), engine.generate(batch.generation)

good = answers(A), answers(B)
verdicts = {}

def sabotaged(name, owner, attribute, broken):
    healthy = owner.__dict__.get(attribute)
    answers(A)
    setattr(owner, attribute, broken)
    try:
        engine.load(B)
        verdicts[name] = "not noticed"
    except EngineError as error:
        verdicts[name] = f"{type(error).__name__}: {error}"
    if healthy is None:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, healthy)
    verdicts[name + ", afterwards"] = (answers(A), answers(B)) == good

whole = Basis.merged_tensors

def without(*names):
    return lambda self, recipe: (pair for pair in whole(self, recipe) if pair[0] not in names)

def with_nan(self, recipe):
    for name, tensor in whole(self, recipe):
        if name == "model.layers.1.mlp.down_proj.weight":
            tensor[3, 5] = float("nan")
        yield name, tensor

def deaf(weights):
    load = type(model).load_weights
    rest = (pair for pair in weights if not pair[0].endswith("layers.0.self_attn.k_proj.weight"))
    return load(model, rest) | {"model.layers.0.self_attn.qkv_proj.weight"}

qkv = model.model.layers[0].self_attn.qkv_proj
finalize, initialize = transfer.finalize_layerwise_reload, transfer.initialize_layerwise_reload
kernels = {}

def keep_kernel(*arguments):
    kernels["old"] = qkv.cpu_linear
    return initialize(*arguments)

def with_old_kernel(*arguments):
    finalize(*arguments)
    qkv.cpu_linear = kernels["old"]

sabotaged("no reset", engine._llm, "reset_prefix_cache", lambda: True)
sabotaged("refused reset", engine._llm, "reset_prefix_cache", lambda: False)
sabotaged("missing tensor", Basis, "merged_tensors", without("model.norm.weight"))
sabotaged("missing part", Basis, "merged_tensors", without("model.layers.1.mlp.up_proj.weight"))
sabotaged("dropped on the way", model, "load_weights", deaf)
sabotaged("nan", Basis, "merged_tensors", with_nan)
head = type(model.lm_head.quant_method)
sabotaged("stale head", head, "process_weights_after_loading", lambda self, layer: None)
transfer.initialize_layerwise_reload = keep_kernel
sabotaged("stale kernel", transfer, "finalize_layerwise_reload", with_old_kernel)
transfer.initialize_layerwise_reload = initialize

engine.load(A)
for length in (159, 160):
    try:
        engine.loglikelihood([Loglikelihood((1,) * (length - 1), (2,))])
        verdicts[str(length)] = "answered"
    except ConfigError as error:
        verdicts[str(length)] = str(error)
verdicts["ended"] = engine.generate([Generation(tuple(range(40, 52)), (), 8, special) for special in (True, False)])
Path(sys.argv[2]).write_text(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the engine says to each way of spoiling a swap, and whether the next swaps are right again."""
    root = tmp_path_factory.mktemp("sabotage")
    folders = family(root, tied=True)
    # A second end of text: the first token that A writes.
    first, *_ = written(folders, tuple(range(40, 52)))
    (root / "base" / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, first]}))
    script, out = root / "sabotage.py", root / "verdicts.json"
    script.write_text(SABOTAGE)
    variables = os.environ | environment(SETTINGS) | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, str(script), str(root), str(out)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_a_token_that_ends_a_text_is_no_part_of_it(verdicts: dict[str, object]) -> None:
    assert verdicts["ended"] == ["", ""]


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ("no reset", "EngineError: swap refused: the prefix cache still held 32 tokens"),
        ("refused reset", "EngineError: the prefix cache was not reset"),
        ("missing tensor", "EngineError: swap refused: tensor 'model.norm.weight' is missing"),
        ("missing part", "EngineError: swap refused: tensor 'model.layers.1.mlp.up_proj.weight' is missing"),
        (
            "dropped on the way",
            "EngineError: swap refused: layer 'model.layers.0.self_attn.qkv_proj' got 8192 of 12288 elements",
        ),
        (
            "nan",
            "ModelError: swap refused: tensor 'model.layers.1.mlp.down_proj.weight' holds a value that is not finite",
        ),
        ("stale head", "EngineError: swap refused: head 'lm_head' is stale"),
        ("stale kernel", "EngineError: swap refused: linear layers with 64 inputs are stale"),
    ],
)
def test_a_spoiled_swap_is_refused_and_the_next_is_right(verdicts: dict[str, object], spoiled: str, said: str) -> None:
    assert str(verdicts[spoiled]).startswith(said)
    assert verdicts[f"{spoiled}, afterwards"] is True


def test_a_request_longer_than_the_engine_takes_is_the_config_s_fault(verdicts: dict[str, object]) -> None:
    assert verdicts["159"] == "answered"
    assert "has 160 tokens, this engine takes 159: raise max_model_len" in str(verdicts["160"])


def swap(tensors: tuple[int, ...], *canary: float) -> Swap:
    return Swap(tensors, canary)


def test_a_canary_tells_when_other_tensors_answer_alike_and_equal_tensors_do_not() -> None:
    before = swap((1, 2, 3, 4), -1.0, -2.0)
    assert canary_fault(swap((5, 6, 7, 4), -1.5, -2.0), before, None) is None
    assert "3 of 4 tensors changed" in str(canary_fault(swap((5, 6, 7, 4), -1.0, -2.0), before, None))
    assert canary_fault(swap((1, 2, 3, 5), -1.0, -2.0), before, None) is None  # a step below rounding
    assert "equal tensors" in str(canary_fault(swap((1, 2, 3, 4), -1.0, -2.5), None, before))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.5, -9.2e32])
def test_a_canary_out_of_range_is_a_fault(value: float) -> None:
    assert "finite and at most 0" in str(canary_fault(swap((1,), -1.0, value), None, None))


def test_one_token_choices_of_a_context_take_one_request() -> None:
    requests = [Loglikelihood((1, 2, 3), (choice,)) for choice in (7, 8, 9, 7)]
    assert plan(requests, BLOCK).prompts == ((1, 2, 3),)


def test_short_contexts_take_one_request_a_continuation_and_long_ones_one_more() -> None:
    short, long = tuple(range(5)), tuple(range(BLOCK))
    continuations = [(7, 8), (7, 9), (8, 8), (7, 8)]
    assert plan([Loglikelihood(short, c) for c in continuations], BLOCK).prompts == tuple(
        short + c for c in continuations[:3]
    )
    assert plan([Loglikelihood(long, c) for c in continuations], BLOCK).prompts == (
        long,
        *(long + c for c in continuations[:3]),
    )


def test_more_first_tokens_than_a_request_takes_are_split() -> None:
    requests = [Loglikelihood((1,), (choice,)) for choice in range(200)]
    assert [len(ids) for ids in plan(requests, BLOCK).ids] == [128, 72]


def test_a_request_whose_rows_an_earlier_one_leaves_in_the_cache_goes_past_it() -> None:
    # Continuations of 40 tokens after 5 that differ in the last one: blocks of 32 end in the continuation, and the
    # second would find its rows there.
    common = tuple(range(100, 139))
    assert plan([Loglikelihood((1,) * 5, (*common, last)) for last in (7, 8, 9)], BLOCK).uncached == {1, 2}
    # After 31 tokens the first row needed is 31, computed at position 30, in a block that both share; the first request
    # of all finds nothing.
    assert plan([Loglikelihood((1,) * 31, (5, last)) for last in (7, 8)], BLOCK).uncached == {1}
    # A prompt of 32 tokens has no block before its last token, and one whose context fills the block needs no row of
    # it.
    assert plan([Loglikelihood((1,) * 30, (5, last)) for last in (7, 8)], BLOCK).uncached == set()
    assert plan([Loglikelihood((1,) * 32, (5, last)) for last in (7, 8)], BLOCK).uncached == set()


def test_no_answer_waits_for_the_end_of_the_queue(swapped: dict) -> None:
    lengths = [len(part.loglikelihood) for part in swapped["hearing"]["all"].heard]
    assert max(after - before for before, after in pairwise(lengths)) < 400  # of 800; a step takes 256 requests
