"""A right answer after a thought counts; what is written in a thought without an end does not."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from made.models import tiny_llama
from places import TOY
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import EvaluationSet, build
from psomerge.evals.harness.thinking import Marks, answer_after, begin_of
from psomerge.evals.suites.file import load_suite

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]{% if enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
)
END = "think_end_token: '</think>'"


@pytest.mark.parametrize(
    ("text", "prompt", "end", "answer"),
    [
        ("<think>Lima? No.\n\nOslo.</think>\n\nLima", "Q", "</think>", "Lima"),
        ("Oslo.</think> Lima", "Q<think>\n", "</think>", "Lima"),
        ("<think>Lima", "Q", "</think>", None),
        ("Lima, or is it", "Q<think>\n", "</think>", None),
        ("Lima", "Q", "</think>", "Lima"),  # a model of two modes that needs no thought
        ("Lima", "Q<think>\n\n</think>\n\n", "</think>", "Lima"),
        ("a</think>b</think>Lima", "Q<think>", "</think>", "Lima"),
        ("a</think>b<think>Lima", "Q<think>", "</think>", None),
        ("x[/THINK]Lima", "Q", "[/THINK]", "Lima"),
        ("[THINK]Lima", "Q", "[/THINK]", None),
        ("Lima", "Q", "<|final|>", None),  # nothing tells whether it has begun to think
        ("Oslo<|final|>Lima", "Q", "<|final|>", "Lima"),
        ("Lima", "Q", "◁/think▷", "Lima"),  # was no answer: the begin was not known
        ("◁think▷Oslo?◁/think▷Lima", "Q", "◁/think▷", "Lima"),
        ("◁think▷Lima", "Q", "◁/think▷", None),
        ("Lima", "Q<|begin_of_thought|>\n", "<|end_of_thought|>", None),
        ("Lima", "Q", "<|end_of_thought|>", "Lima"),
        ("analysis<|channel|>final<|message|>Lima", "Q", "<|channel|>final<|message|>", "Lima"),
        ("", "Q<think>", "</think>", None),
        ("x</think>", "Q<think>", "</think>", ""),
    ],
)
def test_what_follows_the_thought_is_the_answer(text, prompt, end, answer):
    assert answer_after(text, prompt, Marks(begin_of(end), end)) == answer


@pytest.mark.parametrize(
    ("end", "begin"),
    [
        ("</think>", "<think>"),
        ("</think>\n\n", "<think>"),
        ("[/THINK]", "[THINK]"),  # Magistral
        ("◁/think▷", "◁think▷"),  # Kimi
        ("</seed:think>", "<seed:think>"),  # Seed-OSS
        ("</thought>", "<thought>"),
        ("</reasoning>", "<reasoning>"),
        ("<|/thought|>", "<|thought|>"),
        ("<|end_of_thought|>", "<|begin_of_thought|>"),  # OpenThinker
        ("<|END_THINKING|>", "<|START_THINKING|>"),  # Command A
        ("<|channel|>final<|message|>", None),  # gpt-oss writes it before every answer
        ("<|end|>", None),
        ("Here is my response:", None),
    ],
)
def test_the_begin_is_told_by_the_end(end, begin):
    assert begin_of(end) == begin


def test_the_begin_may_be_said(tmp_path, model):
    assert answer_after("Lima", "Q", Marks("Here is my thought:", "Here is my response:")) == "Lima"
    assert answer_after("Here is my thought: Lima", "Q", Marks("Here is my thought:", "Here is my response:")) is None
    said = set_of(tmp_path, model, "{think_end_token: 'Answer:', think_begin_token: 'Thought:'}")
    unsaid = set_of(tmp_path, model, "{think_end_token: 'Answer:'}")
    assert said.digest != unsaid.digest
    texts = tuple(f"{doc['capital']}." for doc in said.prepared[0].items.docs)
    assert [one.score(Answers(generation=texts))[0].score for one in (said, unsaid)] == [1.0, 0.0]
    with pytest.raises(ConfigError, match="`think_begin_token` needs `think_end_token`"):
        set_of(tmp_path, model, "{think_begin_token: 'Thought:'}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("thinking"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def set_of(
    folder: Path, model: Path, prompting: str, entry: str = "task: toy_say, metric: exact_match"
) -> EvaluationSet:
    (folder / "own.yaml").write_text(
        "name: own\nsalt: s\nshares: {optimisation: 0.4, validation: 0.2, test: 0.4}\n"
        f"include: [{TOY}]\nprompting: {prompting}\nbenchmarks:\n  - {{{entry}"
        f"{', filter: whole' if 'say' in entry else ''}}}\n"
    )
    return build(load_suite(folder / "own.yaml"), "test", model, allow_task_code=True)


@pytest.mark.heavy
@pytest.mark.parametrize("prompting", [f"{{{END}}}", f"{{chat_template: true, {END}}}"])
def test_stop_strings_count_after_the_thought_and_an_unfinished_one_scores_nothing(tmp_path, model, prompting, caplog):
    # The task stops at a line's end and at a full stop, both of which are in every thought.
    evaluation = set_of(tmp_path, model, prompting)
    assert {request.stop for request in evaluation.batch.generation} == {("<eos>",)}
    capitals = [doc["capital"] for doc in evaluation.prepared[0].items.docs]
    thought = "<think>It is Oslo.\n\nNo, wait.\n"
    for form, score in (
        (f"{thought}</think>\n\n{{}}. Or so.\nQ", 1.0),
        (f"{thought}{{}}</think>\n\nOslo no.", 0.0),
        (f"{thought}{{}}", 0.0),
    ):
        texts = tuple(form.format(capital) for capital in capitals)
        ((found, examples),) = evaluation.examine(Answers(generation=texts))
        assert found.score == score
        assert all(example.extracted != capital for example, capital in zip(examples, capitals, strict=True)) == (
            not score
        )
        tally = evaluation.tally()
        tally.add(Answers(generation=texts))
        assert tally.most() == {"toy_say": score}
    assert (
        f"toy_say: {len(capitals)} of {len(capitals)} thoughts have no end (</think>) and count as no answer"
        in caplog.text
    )


@pytest.mark.heavy
def test_template_arguments_are_in_the_prompts_and_in_the_digest(tmp_path, model):
    thinking = set_of(tmp_path, model, f"{{chat_template: true, {END}}}")
    arguments = "chat_template_args: {enable_thinking: false}"
    plain = set_of(tmp_path, model, f"{{chat_template: true, {END}, {arguments}}}")
    prompts = [one.prepared[0].task.instances[0].args[0] for one in (thinking, plain)]
    assert prompts[0].endswith("[assistant]<think>\n")
    assert prompts[1].endswith("[assistant]<think>\n\n</think>\n\n")
    without = set_of(tmp_path, model, f"{{chat_template: true, {arguments}}}")
    assert len({thinking.digest, plain.digest, without.digest}) == 3
    answers = Answers(generation=tuple(f"{doc['capital']}." for doc in plain.prepared[0].items.docs))
    assert [one.score(answers)[0].score for one in (thinking, plain, without)] == [0.0, 1.0, 1.0]
    with pytest.raises(ArtefactError, match=r"benchmark toy_say: item .* asks for no 'enable_thnking'.*did you mean"):
        set_of(tmp_path, model, "{chat_template: true, chat_template_args: {enable_thnking: false}}")


@pytest.mark.heavy
def test_choices_are_not_held_against_the_begin_of_a_thought(tmp_path, model):
    pick = "task: toy_pick, metric: acc"
    with pytest.raises(
        ConfigError, match=r"benchmark toy_pick: task toy_pick compares choices, and its prompts end in"
    ):
        set_of(tmp_path, model, f"{{chat_template: true, {END}}}", pick)
    arguments = "chat_template_args: {enable_thinking: false}"
    assert set_of(tmp_path, model, f"{{chat_template: true, {END}, {arguments}}}", pick).batch.loglikelihood


def test_an_end_that_is_a_special_token_is_written_by_the_engine(tmp_path, model):
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert {request.special for request in set_of(tmp_path, model, f"{{{END}}}").batch.generation} == {False}
    tokenizer.add_special_tokens({"additional_special_tokens": ["[/THINK]"]})
    tokenizer.save_pretrained(tmp_path / "special")
    found = set_of(tmp_path, tmp_path / "special", "{think_end_token: '[/THINK]'}")
    assert {request.special for request in found.batch.generation} == {True}
