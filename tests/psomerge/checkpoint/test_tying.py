"""What ties a head is what the installed transformers makes of a config: held against it, type by type."""

from copy import deepcopy
from itertools import product
from typing import Any

import pytest

from psomerge.checkpoint.layers import is_embedding, is_head
from psomerge.checkpoint.tying import (
    KEY,
    TIED,
    UNTIED,
    doubled_head,
    doubled_inputs,
    lacks_head,
    ties_head,
)

SILENT_CLASSES = {"encoder-decoder", "vision-encoder-decoder", "musicgen", "musicgen_melody", "mllama"}
"""Made of other models' configs: alone they say nothing."""
BUILT_ONLY = {"blip-2", "instructblip", "instructblipvideo", "fun_asr_nano", "muse_glimmer", "step3p7"}
"""Of several parts; their config alone says nothing, or they are in another table of the library."""
OTHER_NAMES = {
    *("bert", "big_bird", "megatron-bert", "bert-generation", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl"),
    *("xmod", "data2vec-text", "ernie", "roberta-prelayernorm", "roc_bert", "roformer", "modernbert-decoder"),
    *("ctrl", "xlm", "xlnet", "rwkv", "git", "whisper", "blt", "prophetnet", "t5gemma", "t5gemma2"),
}
"""Types whose tied pair has names that are not read: text encoders, and models before GPT-2."""


def types() -> list[str]:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    tables = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT")
    found = {kind for table in tables for kind in getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES")}
    return sorted(kind for kind in found if kind in CONFIG_MAPPING)


def of_library(config: dict[str, object]) -> bool | None:
    """Raises LookupError where the class wants more to be said."""
    from transformers import CONFIG_MAPPING

    try:
        return getattr(CONFIG_MAPPING[config["model_type"]].from_dict(deepcopy(config)), KEY, None)
    except Exception as error:
        raise LookupError from error


def test_a_silent_config_means_what_its_class_says() -> None:
    told = {}
    for kind in types():
        try:
            told[kind] = of_library({"model_type": kind})
        except LookupError:
            assert kind in SILENT_CLASSES
    assert {kind for kind, tied in told.items() if tied is True} == TIED - BUILT_ONLY
    assert {kind for kind, tied in told.items() if tied is False} == UNTIED - BUILT_ONLY
    assert len(TIED) + len(UNTIED) > 200  # the tables were really asked


NOT_BUILT = {
    *("AyaVisionForConditionalGeneration", "CohereCompassForConditionalGeneration", "Emu3ForCausalLM"),
    *("DeepseekOcr2ForConditionalGeneration", "DiffusionGemmaForBlockDiffusion", "EncoderDecoderModel"),
    *("Emu3ForConditionalGeneration", "FastVlmForConditionalGeneration", "Gemma3nForConditionalGeneration"),
    *("Gemma4AssistantForCausalLM", "Granite4VisionForConditionalGeneration", "HunYuanVLForConditionalGeneration"),
    *("Llama4ForCausalLM", "MusicgenForCausalLM", "MusicgenMelodyForCausalLM", "Qwen3_5ForCausalLM"),
    *("PerceptionLMForConditionalGeneration", "Qwen2_5OmniForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    *("Qwen3OmniMoeForConditionalGeneration", "Qwen4ExpForCausalLM", "VisionEncoderDecoderModel"),
}
"""Classes that do not come up from their config's own defaults, or want timm: their configs are asked."""
NO_HEAD = {"blip", "nemotron_h_omni"}
"""Their class tells no output embedding."""


def of_several_parts() -> list[tuple[str, str, str]]:
    """(model type, class, part that writes), as the library lists them."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    found = set()
    for table in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"):
        for kind, names in getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES").items():
            parts = getattr(CONFIG_MAPPING[kind], "sub_configs", {}) if kind in CONFIG_MAPPING else {}
            part = next((part for part in ("text_config", "decoder", "thinker_config") if part in parts), None)
            found |= {(kind, name, part) for name in ([names] if isinstance(names, str) else names) if part}
    return sorted(found)


def built(kind: str, name: str, config: dict[str, Any]) -> Any:
    """A model of a config without memory, of one layer where its class takes that. Raises LookupError where it does not
    come up."""
    import torch
    import transformers

    for few in (True, False):
        try:
            settings = transformers.CONFIG_MAPPING[kind].from_dict(deepcopy(config))
            for part in (settings, *(getattr(settings, key, None) for key in settings.sub_configs)):
                for key in ("num_hidden_layers", "num_layers", "depth", "encoder_layers", "decoder_layers"):
                    if few and isinstance(getattr(part, key, None), int):
                        setattr(part, key, 1)
                if few and getattr(part, "layer_types", None):
                    part.layer_types = part.layer_types[:1]
            with torch.device("meta"):
                return getattr(transformers, name)(settings)
        except Exception as error:
            failure = error
    raise LookupError(f"{kind}: {failure}")


def head_is_tied(model: Any) -> bool:
    head = model.get_output_embeddings().weight
    return sum(weight is head for _, weight in model.named_parameters(remove_duplicate=False)) > 1


SAID = [{}, {KEY: True}, {KEY: False}]


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_a_model_of_several_parts_is_tied_as_its_class_builds_it() -> None:
    """`llava` with false above and true in `text_config` was told as untied; the library ties it."""
    wrong, without = [], set()
    for kind, name, part in of_several_parts():
        if name in NOT_BUILT:
            continue
        for top, text in product(SAID, SAID):
            config = {"model_type": kind, part: {**own_type(kind, part), **text}, **top}
            model = built(kind, name, config)
            if model.get_output_embeddings() is None:
                without.add(kind)
                break
            if ties_head(config) is not head_is_tied(model):
                wrong.append((kind, top, text))
    assert not wrong
    assert without == NO_HEAD


def own_type(kind: str, part: str) -> dict[str, str]:
    """The type of a part by default, which some classes want said."""
    from transformers import CONFIG_MAPPING

    try:
        return {"model_type": CONFIG_MAPPING[kind]().to_dict()[part]["model_type"]}
    except Exception:  # it says none, or does not come up
        return {}


def test_a_part_decides_by_its_own_class_where_it_says_nothing() -> None:
    from transformers import CONFIG_MAPPING

    for text, tied in (("gemma", True), ("llama", False)):
        config = {"model_type": "llava", "text_config": {"model_type": text}}
        assert ties_head(config) is tied
        assert CONFIG_MAPPING["llava"].from_dict(deepcopy(config)).tie_word_embeddings is tied


def test_the_config_of_a_class_that_is_not_built_here_says_what_ours_says() -> None:
    wrong = []
    for kind, name, part in of_several_parts():
        for top, text in product(SAID, SAID):
            config = {"model_type": kind, part: {**own_type(kind, part), **text}, **top}
            if name in NOT_BUILT and kind not in SILENT_CLASSES | {"gemma4_assistant", "llama4"}:
                wrong += [(name, top, text)] if ties_head(config) != of_library(config) else []
    assert not wrong


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_pairs_that_classes_tie_are_known_by_their_names() -> None:
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    unknown = set()
    for table in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES):
        for kind, names in table.items():
            for name in [names] if isinstance(names, str) else names:
                for copy, source in (getattr(getattr(transformers, name), "_tied_weights_keys", None) or {}).items():
                    known = (is_head(copy) and is_embedding(source)) or doubled_inputs([copy, source])
                    if copy.endswith("weight") and not known and kind != "trocr" and "text_" not in copy:
                        unknown.add(kind)
    assert unknown == OTHER_NAMES


def test_copies_of_an_encoders_and_a_decoders_embedding_go_with_the_shared_one() -> None:
    names = ["model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
    assert doubled_inputs(names) == [(names[2], names[0]), (names[1], names[0])]
    assert doubled_inputs(["model.decoder.embed_tokens.weight", "lm_head.weight"]) == []


def test_a_head_is_doubled_or_lacking_by_the_class_where_the_config_is_silent() -> None:
    both, one = ["lm_head.weight", "model.embed_tokens.weight"], ["model.embed_tokens.weight"]
    gemma = {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    strange = {"model_type": "newer", "architectures": ["NewerForCausalLM"]}
    assert doubled_head(both, gemma) == (both[0], both[1])
    assert not doubled_head(both, gemma | {KEY: False})
    assert not doubled_head(both, llama)
    assert doubled_head(both, llama | {KEY: True})
    assert not doubled_head(both, strange)
    assert lacks_head(one, llama)
    assert not lacks_head(one, gemma)
    assert not lacks_head(one, strange)  # of a class that is not known nothing is claimed
