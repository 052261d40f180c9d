"""Which engine judges: vLLM's own list is asked, nothing is imported or started."""

import json
import subprocess
import sys

import pytest

from psomerge.errors import ConfigError
from psomerge.evals.engines import choice as engine_choice
from psomerge.evals.engines.choice import Choice, choose
from psomerge.evals.engines.model_types import multimodal, of_text
from psomerge.evals.engines.vllm.architectures import architectures

pytestmark = pytest.mark.heavy

LLAMA, T5 = {"architectures": ["LlamaForCausalLM"]}, {"architectures": ["T5ForConditionalGeneration"]}


def test_auto_takes_vllm_where_it_runs_the_architecture_and_else_transformers_saying_why():
    assert choose("auto", LLAMA) == Choice("vllm")
    assert choose("auto", T5) == Choice("transformers", "vLLM does not run T5ForConditionalGeneration")
    assert choose("transformers", LLAMA) == Choice("transformers")
    assert choose("vllm", LLAMA) == Choice("vllm")


def test_vllm_for_an_architecture_that_it_does_not_run_is_refused_with_the_way_out():
    with pytest.raises(
        ConfigError,
        match=r"engine\.kind is vllm, but vLLM does not run T5ForConditionalGeneration; set engine\.kind to "
        r"transformers",
    ):
        choose("vllm", T5)


def test_without_vllm_auto_takes_transformers_and_vllm_is_refused(monkeypatch):
    monkeypatch.setattr(engine_choice, "architectures", frozenset)
    assert choose("auto", LLAMA) == Choice("transformers", "vLLM is not installed")
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        choose("vllm", LLAMA)


def test_the_list_is_that_of_vllms_own_registry_and_asking_imports_no_vllm():
    # The registry itself, imported in a process of its own; it also lists models that write no text.
    code = (
        "import json; from vllm.model_executor.models.registry import ModelRegistry; "
        "print(json.dumps(sorted(ModelRegistry.get_supported_archs())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert {*architectures()} < {*json.loads(done.stdout.splitlines()[-1])}
    assert {"LlamaForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForCausalLM", "PhiForCausalLM"} < architectures()
    asked = (
        "import sys; from psomerge.evals.engines.vllm.architectures import architectures; "
        "print(len(architectures()), 'vllm' "
        "in sys.modules, 'torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert int(told[0]) > 120
    assert told[1:] == ["False", "False"]


LLAVA = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava"}
ARCHITECTURES = {
    "llava": "LlavaForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_model_that_reads_more_than_text_is_judged_by_transformers_and_vllm_is_refused_for_it(kind):
    config = {"architectures": [ARCHITECTURES[kind]], "model_type": kind}
    reason = f"{ARCHITECTURES[kind]} reads more than text, which the vLLM engine here cannot take"
    assert choose("auto", config) == Choice("transformers", reason)
    assert choose("transformers", config) == Choice("transformers")
    with pytest.raises(ConfigError, match=rf"engine\.kind is vllm, but {reason}; set engine\.kind to transformers"):
        choose("vllm", config)
    assert ARCHITECTURES[kind] not in architectures()


@pytest.mark.parametrize(
    ("kind", "architecture", "reason"),
    [
        ("blip-2", "Blip2ForConditionalGeneration", "it does not write text without a picture or a sound"),
        ("whisper", "WhisperForConditionalGeneration", "it does not write text without a picture or a sound"),
        ("paligemma", "PaliGemmaForConditionalGeneration", "it does not write text without a picture or a sound"),
        ("vit", "ViTForImageClassification", "transformers has no model of it that writes text"),
        ("of-tomorrow", "TomorrowForCausalLM", "transformers has no model of it that writes text"),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "transformers"])
def test_a_model_that_no_engine_judges_is_refused_with_what_can_be_done(kind, architecture, reason, wanted):
    with pytest.raises(ConfigError, match=f"no engine judges {architecture}.*{reason}.*psomerge merge"):
        choose(wanted, {"architectures": [architecture], "model_type": kind})


def test_the_lists_are_those_of_transformers_own_registry_and_asking_does_not_import_it():
    from transformers.models.auto import modeling_auto as registry

    assert of_text() == {
        *registry.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *registry.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }
    classes = registry.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    assert multimodal() == {key: one if isinstance(one, str) else one[0] for key, one in classes.items()}
    asked = "choose('auto', {'architectures': ['X'], 'model_type': 't5'})"
    begin, end = "import sys; from psomerge.evals.engines.choice import choose", "print('transformers' in sys.modules)"
    code = f"{begin}; {asked}; {end}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
