"""Few-shot examples and chat templates: prompts are those of lm-evaluation-harness, and no example comes from an item
that anybody is judged on."""

import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from made.models import tiny_llama
from places import TOY
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness import build, build_all
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.splits import SPLITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'system' and no_system is defined %}{{ raise_exception('no system "
    "role') }}{% endif %}"
    "[{{ turn.role }}]{{ turn.content }}{% if not (loop.last and continue_final_message) %}[end]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SMALL = "{optimisation: 0.1, validation: 0.2, test: 0.2}"
CHAT = (
    "prompting: {chat_template: true, num_fewshot: 2, fewshot_as_multiturn: true, system_instruction: Answer briefly.}"
)
TRAINING = """

def taught(**given):
    held = capitals(**given)["test"]
    old = [{**doc, "country": "Old " + doc["country"], "question": "Once t" + doc["question"][1:]} for doc in held]
    return {"train": Dataset.from_list(old), "test": held}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from transformers import AutoTokenizer

    folder = tiny_llama(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """The toy tasks with a training split of their own: what the harness draws its examples from."""
    folder = shutil.copytree(TOY, tmp_path_factory.mktemp("taught") / "taught")
    (folder / "data.py").write_text((TOY / "data.py").read_text() + TRAINING)
    for name in ("toy_pick", "toy_say"):
        text = (TOY / f"{name}.yaml").read_text().replace("!function data.capitals", "!function data.taught")
        (folder / f"{name}.yaml").write_text(text + "training_split: train\n")
    return folder


def sets_of(
    tmp_path: Path,
    model: Path,
    folder: Path,
    prompting: str,
    *,
    shares: str = "{optimisation: 0.2, validation: 0.2, test: 0.3}",
):
    (tmp_path / "made.yaml").write_text(
        f"name: made\nsalt: made\nshares: {shares}\ngroup: country\ninclude: [{folder}]\n{prompting}\nbenchmarks:\n"
        "  - {task: toy_pick, metric: acc}\n  - {task: toy_say, metric: exact_match, filter: whole}\n"
    )
    return build_all(load_suite(tmp_path / "made.yaml"), SPLITS, model, allow_task_code=True)


def asked_by_the_harness(task: str, folder: Path, model: Path, samples: list[int], **settings) -> list[tuple[str, ...]]:
    """Prompts, with continuations where there are some, that the harness's own `simple_evaluate` sends a model."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoTokenizer

    asked: list[tuple[str, ...]] = []

    class Listener(LM):
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer_name = "made"
        chat_template_args: ClassVar[dict] = {}
        apply_chat_template = HFLM.apply_chat_template

        def chat_template(self, wanted):
            return TEMPLATE

        def loglikelihood(self, requests):
            asked.extend(request.args for request in requests)
            return [(-1.0, False)] * len(requests)

        def generate_until(self, requests):
            asked.extend(request.args[:1] for request in requests)
            return [""] * len(requests)

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    manager = TaskManager(include_path=[folder], include_defaults=False)
    simple_evaluate(
        Listener(), tasks=[task], task_manager=manager, samples={task: samples}, bootstrap_iters=0, **settings
    )
    return asked


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("prompting", "settings"),
    [
        ("prompting: {num_fewshot: 3}", {"num_fewshot": 3}),
        ("prompting: {chat_template: true}", {"apply_chat_template": True, "num_fewshot": 0}),
        (
            "prompting: {chat_template: true, num_fewshot: 2}",
            {"apply_chat_template": True, "fewshot_as_multiturn": False, "num_fewshot": 2},
        ),
        (
            CHAT,
            {
                "apply_chat_template": True,
                "fewshot_as_multiturn": True,
                "num_fewshot": 2,
                "system_instruction": "Answer briefly.",
            },
        ),
    ],
)
def test_prompts_are_the_harnesss_own(tmp_path, model, taught, prompting, settings):
    evaluation = sets_of(tmp_path, model, taught, prompting)["test"]
    for one in evaluation.prepared:
        theirs = asked_by_the_harness(one.benchmark.task, taught, model, list(one.items.indices), **settings)
        ours = [
            instance.args if instance.request_type == "loglikelihood" else instance.args[:1]
            for instance in one.task.instances
        ]
        assert ours == theirs
        assert len(ours) > 2
        assert ("Once " in ours[0][0]) == ("num_fewshot: " in prompting)  # examples are there, from the training split


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("prompting", "settings"),
    [("", {}), ("prompting: {chat_template: true}", {"apply_chat_template": True, "fewshot_as_multiturn": False})],
)
def test_a_task_s_own_number_of_examples_is_the_harness_s(tmp_path, model, taught, prompting, settings):
    folder = shutil.copytree(taught, tmp_path / "own")
    for name in ("toy_pick", "toy_say"):
        (folder / f"{name}.yaml").write_text((taught / f"{name}.yaml").read_text() + "num_fewshot: 2\n")
    for one in sets_of(tmp_path, model, folder, prompting)["test"].prepared:
        theirs = asked_by_the_harness(one.benchmark.task, folder, model, list(one.items.indices), **settings)
        assert [
            instance.args[: len(asked)] for instance, asked in zip(one.task.instances, theirs, strict=True)
        ] == theirs
        assert theirs[0][0].count("Once ") == 2


def test_examples_belong_to_no_split_and_the_prompts_of_a_split_do_not_depend_on_the_others(tmp_path, model):
    sets = sets_of(tmp_path, model, TOY, "prompting: {num_fewshot: 2}", shares=SMALL)
    held = {name for one in sets.values() for prepared in one.prepared for name in prepared.items.groups}
    free = {
        "Austria",
        "Chad",
        "Chile",
        "Cuba",
        "Egypt",
        "Ghana",
        "Iran",
        "Kenya",
        "Nepal",
        "Norway",
        "Peru",
        "Togo",
    } - held
    assert len(free) >= 3
    for one in sets.values():
        for prepared in one.prepared:
            for instance, own in zip(
                prepared.task.instances,
                [g for g in prepared.items.groups for _ in range(4 if "pick" in prepared.task.task_name else 1)],
                strict=True,
            ):
                *examples, question = instance.args[0].split("\n\n")
                assert own in question
                assert len(examples) == 2
                assert all(any(country in example for country in free) for example in examples)
    alone = build(load_suite(tmp_path / "made.yaml"), "validation", model, allow_task_code=True)
    assert alone.batch == sets["validation"].batch


def test_an_example_of_a_held_group_is_not_drawn_though_its_document_is_another(tmp_path, model, taught):
    folder = shutil.copytree(taught, tmp_path / "same")
    (folder / "data.py").write_text((folder / "data.py").read_text().replace('"Old " + ', ""))
    sets = sets_of(tmp_path, model, folder, "prompting: {num_fewshot: 2}")
    held = {name for one in sets.values() for prepared in one.prepared for name in prepared.items.groups}
    for prepared in sets["test"].prepared:
        for instance in prepared.task.instances:
            *examples, _ = instance.args[0].split("\n\n")
            assert len(examples) == 2
            assert not any(country in example for country in held for example in examples)


def test_too_few_examples_outside_the_splits_are_refused(tmp_path, model):
    with pytest.raises(
        ArtefactError,
        match=r"benchmark toy_pick: expected at least 4 examples that belong to no split, found \d of 12; leave a "
        r"remainder",
    ):
        sets_of(
            tmp_path,
            model,
            TOY,
            "prompting: {num_fewshot: 4}",
            shares="{optimisation: 0.4, validation: 0.2, test: 0.4}",
        )


def with_template(folder: Path, model: Path, template: str) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


LAST = "{{ messages[-1].content }}"
SILENT = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
CUT = "{% for m in messages %}{{ m.content[:12] }}{% endfor %}"
ONCE = "{% for m in messages[-1:] %}{{ m.content }}{% endfor %}"
THOUGHT = "{% for m in messages %}{{ m.content.split('capital')[-1] }}{% endfor %}"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("template", "prompting", "text"),
    [
        (
            TEMPLATE.replace("no_system is defined", "true"),
            "system_instruction: Hm",
            "refuses a conversation of system",
        ),
        (
            SILENT,
            "system_instruction: Be brief.",
            "text of turn 1 of 2, the system's: expected 'Be brief.' in the prompt",
        ),
        (CUT, "num_fewshot: 0", "text of turn 1 of 1, the user's: expected 'The capital of "),
        (ONCE, "num_fewshot: 1, fewshot_as_multiturn: true", "text of turn 1 of 3, the user's"),
        (THOUGHT, "num_fewshot: 0", "the user's"),
        ("{{ messages[0].content | upper }}", "num_fewshot: 0", "the user's"),
        ("Answer!", "num_fewshot: 0", "found 'Answer!'; correct the template, or set chat_template: false"),
    ],
)
def test_a_template_that_loses_text_is_refused_with_the_item(tmp_path, model, taught, template, prompting, text):
    # The story: the harness drops a system's turn with a warning, and a template that cuts or drops turns asked every
    # model the same empty question.
    folder = with_template(tmp_path / "lossy", model, template)
    with pytest.raises(ArtefactError) as caught:
        sets_of(tmp_path, folder, taught, f"prompting: {{chat_template: true, {prompting}}}")
    message = str(caught.value)
    assert message.startswith("suite made: benchmark toy_pick: item ")
    assert '({"country": ' in message
    assert text in message
    assert ("`system_instruction`" in message) == ("system" in prompting)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{% if loop.first and messages[0].role == 'system' %}"
        "{{ messages[0].content }} {% endif %}{{ m.content }}\n{% endfor %}",
        "{% for m in messages[::-1] %}{{ m.content }}|{% endfor %}",
    ],
)
def test_a_template_that_trims_or_moves_text_loses_none(tmp_path, model, taught, template):
    folder = with_template(tmp_path / "sound", model, template)
    assert set(sets_of(tmp_path, folder, taught, CHAT)) == set(SPLITS)


def test_each_turn_has_a_place_of_its_own():
    from psomerge.evals.harness.prompts import lost_turn

    def turns(*contents):
        return [{"role": "user", "content": content} for content in contents]

    assert lost_turn(turns("A", "A cat", "A"), "A|A cat|A") is None
    assert lost_turn(turns("A", "A cat", "A"), "A cat|A") == 2
    assert lost_turn(turns("A", "A cat"), "A cat") == 0
    assert lost_turn(turns(" x\n", ""), "x") is None


def test_a_short_turn_that_is_found_only_where_others_write_it_is_lost():
    # The story: a template that drops the assistant's turns passed, as "A" stands in "Assistant" and "2" in a date.
    from psomerge.evals.harness.prompts import is_unseen, lost_turn, short_turns

    def drops(turns):
        return "2026-03-01 " + "".join(f"<u>{turn['content']}" for turn in turns if turn["role"] == "user") + "<Answer>"

    def keeps(turns):
        return "2026-03-01 " + "".join(f"<{turn['role']}>{turn['content'].strip()}" for turn in turns) + "<Answer>"

    for answer in ("A", "2", "Zq", "Qz", "\n2 "):
        roles = ("user", "assistant", "user")
        turns = [
            {"role": role, "content": content}
            for role, content in zip(roles, (f"What {answer}?", answer, "What is asked?"), strict=True)
        ]
        text = drops(turns)
        if answer in ("A", "2"):
            assert lost_turn(turns, text) is None
        assert short_turns(turns) == [0, 1]
        assert [is_unseen(turns, place, text, drops) for place in (0, 1)] == [False, True]
        assert not any(is_unseen(turns, place, keeps(turns), keeps) for place in (0, 1))


@pytest.mark.heavy
def test_a_template_that_drops_the_letters_of_examples_is_refused(tmp_path, model, taught):
    dropping = (
        "{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}{% endif %}{% endfor %}"
        "A B C D Vienna Lima Cairo Oslo<assistant>"
    )
    folder = shutil.copytree(taught, tmp_path / "letters")
    for name in ("toy_pick", "toy_say"):
        path = folder / f"{name}.yaml"
        path.write_text(path.read_text() + "fewshot_config: {doc_to_target: 'A', doc_to_choice: null}\n")
    with pytest.raises(ArtefactError, match="leaves out text of turn 2 of 3, the assistant's: expected 'A' in"):
        sets_of(
            tmp_path,
            with_template(tmp_path / "lossy", model, dropping),
            folder,
            "prompting: {chat_template: true, num_fewshot: 1, fewshot_as_multiturn: true}",
        )


def test_a_tokenizer_without_a_chat_template_is_refused_where_one_is_asked_for(tmp_path, taught):
    with pytest.raises(ConfigError, match="asks for a chat template and the tokenizer has none; set tokenizer_from"):
        sets_of(tmp_path, tiny_llama(tmp_path / "plain"), taught, CHAT)
