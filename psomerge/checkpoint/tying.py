"""Whether a model's output head is its input embedding: what config.json says and, where it says nothing, its class.

The classes' own words are copied here, as the core knows no transformers; a test holds them against the installed
library, type by type. Of a type that stands in no table nothing is known.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from psomerge.checkpoint.layers import is_embedding, is_head

KEY = "tie_word_embeddings"
_TIED = """
aya_vision bart bert bert-generation big_bird bigbird_pegasus biogpt blenderbot blenderbot-small blip blip-2 bloom
camembert cohere cohere2 cohere2_moe cohere2_vision cohere_compass_text cpmant ctrl data2vec-text deepseek_vl
deepseek_vl_hybrid diffusion_gemma electra ernie ernie4_5 ernie4_5_moe ernie4_5_vl_moe falcon falcon_mamba florence2
fun_asr_nano gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified
gemma4_unified_assistant gemma4_unified_text glmasr got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox_japanese
granite_speech granite_speech_plus granite_swa hunyuan_vl hyperclovax_vision_v2 instructblip instructblipvideo
internvl janus jetmoe kimi_k25 kosmos-2 kosmos-2.5 led lfm2 lfm2_moe lfm2_vl lighton_ocr longt5 m2m_100 mamba marian
mbart megatron-bert minicpm3 mistral3 modernbert-decoder mpt mt5 mvp nllb-moe openai-gpt opt ovis2 paddleocr_vl
paligemma pegasus pegasus_x plbart pp_chart2table prophetnet qwen3_asr recurrent_gemma roberta roberta-prelayernorm
roc_bert roformer seamless_m4t seamless_m4t_v2 shieldgemma2 smollm3 starcoder2 switch_transformers t5 t5gemma
t5gemma2 trocr udop umt5 vaultgemma voxtral_realtime whisper xglm xlm xlm-roberta xlm-roberta-xl xlnet xmod youtu
zamba zamba2 zaya
"""
_UNTIED = """
afmoe apertus arcee aria aria_text axk1 axk2 bamba bitnet blt chameleon codegen cohere_compass cosmos3_edge
cosmos3_omni cwm dbrx deepseek_ocr2 deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 diffllama doge dots1 emu3
evolla exaone4 exaone4_5 exaone_moe falcon_h1 fast_vlm flex_olmo fsmt fuyu git glm glm4 glm46v glm4_moe
glm4_moe_lite glm4v glm4v_moe glm5_next glm_moe_dsa glm_ocr glmga gpt_neox gpt_oss gptj granite granite4_vision
granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3
hy_v4 hyperclovax idefics idefics2 idefics3 jais2 jamba kimi_linear laguna llama llama4 llama4_text llava llava_next
llava_next_video llava_onevision longcat_flash mamba2 mellum mimo_v2_flash minicpmv4_6 minicpmv4_7 minimax
minimax_m2 minimax_m3_vl minimax_m3_vl_text ministral ministral3 mistral mistral4 mixtral moshi muse_glimmer
nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe perception_lm persimmon phi phi3 phi4_multimodal
phimoe pix2struct qianfan_ocr qwen2 qwen2_5_omni_thinker qwen2_5_vl qwen2_moe qwen2_vl qwen3 qwen3_5 qwen3_5_moe
qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe qwen4_exp
qwen4_exp_text reformer rembert rwkv seed_oss smolvlm solar_open stablelm step3p7 video_llama_3 video_llava vipllava
xlstm
"""
_NEVER = """
audioflamingo3 cosmos3_edge inkling_mm_model mllama musicflamingo pp_formulanet qwen2_audio vibevoice_asr voxtral
"""
_EITHER = """
fast_vlm glm4v glm4v_moe glm_ocr kosmos-2 llava llava_next_video llava_onevision minimax_m3_vl paddleocr_vl
qwen2_5_vl qwen2_vl video_llama_3
"""
_TEXT_ALONE = "blip-2 hunyuan_vl instructblip instructblipvideo kosmos-2.5 llama4"
_TEXT_WHERE_SILENT = "perception_lm shieldgemma2"
TIED, UNTIED, NEVER, EITHER, TEXT_ALONE, TEXT_WHERE_SILENT = (
    frozenset(types.split()) for types in (_TIED, _UNTIED, _NEVER, _EITHER, _TEXT_ALONE, _TEXT_WHERE_SILENT)
)
"""Types by what their class does where nothing is said; and, of several parts, those that never tie, that tie where the
whole or `text_config` is tied, that ask `text_config` alone, or where the whole is silent. All others ask the whole."""


def ties_head(config: Mapping[str, Any]) -> bool | None:
    """Returns whether the installed library ties the output head to the input embedding by a config; None where the
    config is silent and its class not known. (T5's class ties whatever is said, but not a stored head that differs.)"""
    kind, said, text = config.get("model_type"), config.get(KEY), config.get("text_config")
    if kind in NEVER:
        return False
    own = said if isinstance(said, bool) else True if kind in TIED else False if kind in UNTIED else None
    if kind not in EITHER | TEXT_ALONE | TEXT_WHERE_SILENT or not isinstance(text, Mapping):
        return own
    part = ties_head(cast("Mapping[str, Any]", text))
    part = kind in TIED if part is None else part  # of a class that no table has, as those of most parts
    if kind in EITHER:
        return own or part
    return own if kind in TEXT_WHERE_SILENT and isinstance(said, bool) else part


def doubled_head(names: Iterable[str], config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns head and embedding where a config ties them and the files hold both all the same, else None."""
    if not ties_head(config):
        return None
    names = list(names)
    head = next((name for name in names if is_head(name)), None)
    embedding = next((name for name in names if is_embedding(name)), None)
    return (head, embedding) if head and embedding else None


def doubled_inputs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns (copy, original) of each embedding of an encoder or decoder beside the one that both share."""
    names = set(names)
    return sorted(
        (copy, shared)
        for shared in names
        if shared.endswith("shared.weight")
        for part in ("encoder", "decoder")
        if (copy := f"{shared.removesuffix('shared.weight')}{part}.embed_tokens.weight") in names
    )


def tied_copy(name: str, stored: Iterable[str]) -> str | None:
    """Returns the stored embedding that a tensor would be a copy of where a model ties them, None where of none."""
    embeddings = [other for other in stored if is_embedding(other) and other != name]
    shared = [other for other in embeddings if doubled_inputs([name, other])]
    return next(iter(embeddings if is_head(name) else shared), None)


def lacks_head(names: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Returns whether a causal model with Llama's names does not tie its head, and has none: loaders then draw a random
    one."""
    names = list(names)
    causal = any(name.endswith("ForCausalLM") for name in config["architectures"])
    return (
        causal and ties_head(config) is False and "model.embed_tokens.weight" in names and not any(map(is_head, names))
    )
