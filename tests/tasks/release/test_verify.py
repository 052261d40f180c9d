"""The registered copy is downloaded by a clean process and must give the answers that were judged."""

import math
from dataclasses import replace

import pytest

from doubles.local_mlflow import local_store, published
from psomerge.errors import EngineError, ServiceError, VerificationError
from psomerge.evals.engines.engine import Answers, Batch, Continuation, EngineSettings, Generation, Loglikelihood
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.scripted import ScriptedEngine
from psomerge.recipe import read
from psomerge.tasks.release import registry, verify
from psomerge.tasks.release.verify import Question
from psomerge.tasks.tracking import run as track

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
KEY = "a" * 64
BATCH = Batch(
    (Loglikelihood((10, 20, 30), (40,)), Loglikelihood((10, 20, 30), (50, 60)), Loglikelihood((70,), (80,))),
    (Generation((10, 20), ("\n",), 8),),
)
SETTINGS = EngineSettings(max_model_len=128, tokenizer_from="expert")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return published(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def question(model, tmp_path_factory):
    work = tmp_path_factory.mktemp("engine")
    engine = SupervisedEngine(
        {"base": model / "model"}, "transformers", replace(SETTINGS, tokenizer_from="base"), work=work, log=work / "log"
    )
    engine.put("validation", BATCH)
    try:
        return Question(BATCH, engine.judge(read(model / "recipe.json"), "validation"), "transformers", SETTINGS)
    finally:
        engine.close()


@pytest.fixture
def store(tmp_path):
    return local_store(tmp_path)


def register(store, model):
    run = track.start(store, "merges", run_key=KEY, name="n")
    model_id = registry.upload(run, model, run_key=KEY, name="merged")
    version = registry.register(run, "merged", run_key=KEY, model_id=model_id, tags={}, description="")
    registry.give_alias(store, version, "challenger")
    return version


def stored(store, name):
    (found,) = store.artifacts.glob(f"**/artifacts/{name}")
    return found


def standing(store):
    found = registry.find(store, "merged", run_key=KEY)
    return found.tags.get("verification"), found.aliases


def test_the_version_that_was_judged_passes_and_nothing_is_left(store, model, question, tmp_path):
    verify.verify(store, register(store, model), question=question, scratch=tmp_path / "scratch")
    assert standing(store) == ("passed", ("challenger",))
    assert not (tmp_path / "scratch").exists()


def test_one_other_bit_in_one_answer_fails_where_the_engine_is_exact(store, model, question, tmp_path):
    first, *others = question.expected.loglikelihood
    changed = replace(
        question.expected, loglikelihood=(replace(first, logprob=math.nextafter(first.logprob, 0)), *others)
    )
    with pytest.raises(
        VerificationError,
        match=r"models:/merged/1 is not the model that was judged: log-likelihood 0: expected .*; it keeps no alias",
    ):
        verify.verify(
            store, register(store, model), question=replace(question, expected=changed), scratch=tmp_path / "scratch"
        )
    assert standing(store) == ("failed", ())


def test_a_flipped_bit_in_the_registrys_copy_fails(store, model, question, tmp_path):
    version = register(store, model)
    path = stored(store, "model/model.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(VerificationError, match=r"model/model\.safetensors: expected SHA-256"):
        verify.verify(store, version, question=question, scratch=tmp_path / "scratch")
    assert standing(store) == ("failed", ())


def test_a_registry_that_lost_its_files_fails(store, model, question, tmp_path):
    version = register(store, model)
    for path in sorted(stored(store, "MANIFEST.json").parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(VerificationError, match="no manifest"):
        verify.verify(store, version, question=question, scratch=tmp_path / "scratch")
    assert standing(store) == ("failed", ())


def test_a_check_that_could_not_be_made_judges_nothing(store, model, question, tmp_path):
    version = register(store, model)
    with pytest.raises(ServiceError, match="no verification within 0 s"):
        verify.verify(store, version, question=question, scratch=tmp_path / "scratch", seconds=0.1)
    with pytest.raises(EngineError):
        verify.verify(
            store,
            version,
            question=replace(question, settings=replace(SETTINGS, start_deadline_s=0.01, restarts=0)),
            scratch=tmp_path / "scratch",
        )
    assert standing(store) == (None, ("challenger",))
    assert not (tmp_path / "scratch").exists()


def test_the_engine_judges_the_downloaded_weights_as_a_base_without_experts(store, model, tmp_path):
    version = register(store, model)
    seen = []
    engine = ScriptedEngine(lambda recipe, request: -1.0)
    asked = {
        "tracking_uri": store.tracking_uri,
        "uri": version.uri,
        "batch": {"loglikelihood": [{"context": [1], "continuation": [2]}], "generation": []},
    }
    answer = verify.answer(asked, tmp_path, lambda folder: seen.append(folder) or engine, lambda *told: [str(told)])
    assert seen == [tmp_path / "download" / "model"]
    assert answer["problems"] == [str((seen[0], engine.capabilities.dtype))]
    assert answer["answers"]["loglikelihood"] == ({"logprob": -1.0, "greedy": False},)
    (recipe,) = engine.judged
    assert (recipe.experts, recipe.coefficients) == ((), ((),))
    assert recipe.base.files["model.safetensors"] == read(model / "recipe.json").base.files["model.safetensors"]


def ask(expected, batch=BATCH, tolerance=0.1):
    return Question(batch, expected, "scripted", EngineSettings(), tolerance)


def answers(*logprobs, text="a"):
    return Answers(tuple(Continuation(value, False) for value in logprobs), (text,))


# The first two requests of BATCH share their context: they are the choices of one item. The third stands alone.
@pytest.mark.parametrize(
    ("expected", "found", "problems"),
    [
        ((-1.0, -2.0, -3.0), (-1.5, -2.5, -3.05), 0),  # the same choice; alone within 0.1
        ((-1.0, -2.0, -3.0), (-2.0, -1.0, -3.0), 1),  # the other choice at a margin of 1
        ((-1.0, -1.05, -3.0), (-1.05, -1.0, -3.0), 0),  # the other choice at a margin of 0.05
        ((-1.0, -2.0, -3.0), (-1.0, -2.0, -3.2), 1),  # alone, 0.2 away
        ((-1.0, -2.0, -3.0), (float("nan"), -2.0, -3.0), 1),
        ((-1.0, -2.0, -3.0), (-1.0, -2.0, float("nan")), 1),
    ],
)
def test_an_inexact_engine_may_differ_within_the_margin_only(expected, found, problems):
    assert len(verify.differences(ask(answers(*expected)), answers(*found), exact=False)) == problems


def test_an_exact_engine_may_not_differ_at_all():
    question = ask(answers(-1.0, -2.0, -3.0))
    assert verify.differences(question, answers(-1.0, -2.0, -3.0), exact=True) == []
    assert len(verify.differences(question, answers(-1.0, -2.0, -3.0000001), exact=True)) == 1
    assert len(verify.differences(question, answers(-1.0, -2.0, -3.0, text="b"), exact=True)) == 1


def test_one_text_in_twenty_may_differ_where_the_engine_is_not_exact_and_two_may_not():
    batch = Batch(generation=(Generation((1,), (), 1),) * 20)
    question = ask(Answers(generation=("a",) * 20), batch)
    for wrong, problems in ((1, 0), (2, 2)):
        assert (
            len(verify.differences(question, Answers(generation=("b",) * wrong + ("a",) * (20 - wrong)), exact=False))
            == problems
        )


def test_a_missing_answer_is_a_difference():
    assert verify.differences(ask(answers(-1.0, -2.0, -3.0)), answers(-1.0, -2.0), exact=False) == [
        "expected 3 + 1 answers, found 2 + 1"
    ]
