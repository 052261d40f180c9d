"""What ties a head is what the installed transformers makes of a config: held against it, type by type."""

import pytest

from psomerge.checkpoint.layers import is_embedding, is_head
from psomerge.checkpoint.tying import (
    KEY,
    TEXT_DECIDES,
    TIED,
    UNTIED,
    doubled_head,
    doubled_inputs,
    lacks_head,
    ties_head,
)

SILENT_CLASSES = {"encoder-decoder", "vision-encoder-decoder", "musicgen", "musicgen_melody", "mllama"}
"""Made of other models' configs: alone they say nothing."""
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
        return getattr(CONFIG_MAPPING[config["model_type"]].from_dict(config), KEY, None)
    except Exception as error:
        raise LookupError from error


def test_a_silent_config_means_what_its_class_says() -> None:
    told = {}
    for kind in types():
        try:
            told[kind] = of_library({"model_type": kind})
        except LookupError:
            assert kind in SILENT_CLASSES
    assert {kind for kind, tied in told.items() if tied is True} == TIED
    assert {kind for kind, tied in told.items() if tied is False} == UNTIED
    assert len(TIED) + len(UNTIED) > 200  # the tables were really asked


@pytest.mark.parametrize("said", [True, False])
def test_a_key_in_the_text_part_alone_counts_where_the_class_takes_it(said: bool) -> None:
    from transformers import CONFIG_MAPPING

    takes = set()
    for kind in types():
        if "text_config" not in getattr(CONFIG_MAPPING[kind], "sub_configs", {}):
            continue
        config = {"model_type": kind, "text_config": {KEY: said}}
        try:
            found = of_library(config)
        except LookupError:
            continue
        assert found == ties_head(config), kind
        takes |= {kind} if found is not None and found != ties_head({"model_type": kind}) else set()
    assert takes == {kind for kind in TEXT_DECIDES if (kind in UNTIED) == said}


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
