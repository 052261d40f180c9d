"""Vocabularies that experts extended: rows are merged by token, the merged tokenizer does for each expert's texts what
its own did.

What a row must be is worked out here from the files as transformers loads them, token by token.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from made.adapters import change, lora, merged_by_peft
from made.extended import by_token, extended
from made.families import LLAMA3, edit, edit_tokens, member
from made.models import tiny_llama
from psomerge.checkpoint.pins import pin
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.engines.shell import tokenizer_folder
from psomerge.merge.basis import open_basis
from psomerge.merge.materialize import write_model
from psomerge.recipe import Recipe, from_dict
from psomerge.tasks.experts.check import check
from psomerge.tasks.experts.rebuild import rebuild
from psomerge.vocabulary.merged_vocabulary import runs, union

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
CHAT = [AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)]
TOOL = [AddedToken("<tool>", lstrip=True, normalized=False), AddedToken("<|im_end|>", special=True)]
"""One token that the others have, too, under another id."""
TEXTS = ["plain words, no token", "<|im_start|>user\nHi<|im_end|>", "call  <tool> now<|im_end|>", "mañana <eos> 你好"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False, vocab=257)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Path]:
    """A base, a chat expert and a tool expert with tokens of their own, one of them common to both, and an expert
    without."""
    place = tmp_path_factory.mktemp("experts")
    chat, tool = extended(base, place / "chat", CHAT, 1), extended(base, place / "tool", TOOL, 2, multiple=64)
    return {"base": base, "chat": chat, "tool": tool, "plain": extended(base, place / "plain", [], 3)}


def recipe_of(folders: dict[str, Path], *coefficients: float, tokenizer_from: str = "base", **fields) -> Recipe:
    sources = [pin(folder, name, str(folder)) for name, folder in folders.items()]
    vocabulary = open_basis(folders, tokenizer_from).vocabulary
    return Recipe(
        sources[0],
        tuple(sources[1:]),
        coefficients=(coefficients,),
        tokenizer_from=tokenizer_from,
        vocabulary=vocabulary,
        **fields,
    )


def expected_rows(folders: dict[str, Path], tensor: str, *coefficients: float) -> dict[str, Tensor]:
    """By token: theta_0 + sum a_i (theta_i - theta_0), where theta_0 of a token that the base lacks is the mean of
    those that have it."""
    base, *experts = (by_token(folder, tensor) for folder in folders.values())
    made: dict[str, Tensor] = {}
    for token in base | {token: row for expert in experts for token, row in expert.items()}:
        having = [expert[token].double() for expert in experts if token in expert]
        origin = base[token].double() if token in base else sum(having) / len(having)
        made[token] = origin + sum(
            a * (expert[token].double() - origin)
            for a, expert in zip(coefficients, experts, strict=True)
            if token in expert
        )
    return made


@pytest.mark.parametrize("tokenizer_from", ["base", "chat", "tool", "plain"])
@pytest.mark.parametrize("tensor", [EMBEDDING, HEAD])
def test_rows_are_merged_by_token_whoever_s_tokenizer_it_is(
    tmp_path: Path, folders: dict[str, Path], tensor: str, tokenizer_from: str
) -> None:
    recipe = recipe_of(folders, 0.5, 0.25, -0.3, tokenizer_from=tokenizer_from)
    rebuild(recipe, folders, tmp_path / "out")
    found, expected = by_token(tmp_path / "out", tensor), expected_rows(folders, tensor, 0.5, 0.25, -0.3)
    assert set(found) == set(expected) == {*by_token(folders["base"], tensor), "<|im_start|>", "<|im_end|>", "<tool>"}
    for token, row in found.items():
        torch.testing.assert_close(row, expected[token].to(torch.bfloat16), rtol=2**-7, atol=1e-4, msg=token)


def test_rows_that_one_expert_has_are_taken_from_it_whatever_its_coefficient(folders: dict[str, Path]) -> None:
    basis = open_basis(folders)
    ids = {token: number for number, token in enumerate(AutoTokenizer.from_pretrained(folders["base"]).get_vocab())}
    start = len(ids)  # the first that is added
    chat = by_token(folders["chat"], EMBEDDING)
    for coefficients in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.3, -2.0, 5.0)):
        made = basis.merged_tensor(recipe_of(folders, *coefficients), EMBEDDING)
        assert torch.equal(made[start], chat["<|im_start|>"])


@pytest.mark.parametrize("name", ["chat", "tool", "plain"])
def test_an_expert_alone_is_itself_in_every_token_of_its_own(folders: dict[str, Path], name: str) -> None:
    place = list(folders).index(name) - 1
    basis, recipe = open_basis(folders), recipe_of(folders, *(float(place == one) for one in range(3)))
    own, tokens = by_token(folders[name], HEAD), open_basis(folders).named("base").edited
    added = {entry["content"]: entry["id"] for entry in json.loads(tokens["tokenizer.json"])["added_tokens"]}
    merged = basis.merged_tensor(recipe, HEAD)
    for token, row in own.items():
        number = added.get(token, AutoTokenizer.from_pretrained(folders["base"]).convert_tokens_to_ids(token))
        torch.testing.assert_close(merged[number], row, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("tokenizer_from", ["base", "tool"])
def test_the_merged_tokenizer_does_to_each_expert_s_text_what_its_own_does(
    tmp_path: Path, folders: dict[str, Path], tokenizer_from: str
) -> None:
    rebuild(recipe_of(folders, 0.3, 0.3, 0.3, tokenizer_from=tokenizer_from), folders, tmp_path / "out")
    merged = AutoTokenizer.from_pretrained(tmp_path / "out")
    for name in folders:
        own = AutoTokenizer.from_pretrained(folders[name])
        others = {token for token in ("<|im_start|>", "<|im_end|>", "<tool>") if token not in own.get_vocab()}
        for text in TEXTS:
            if not any(token in text for token in others):
                ours, theirs = merged(text)["input_ids"], own(text)["input_ids"]
                assert merged.convert_ids_to_tokens(ours) == own.convert_ids_to_tokens(theirs)
                assert merged.decode(ours, skip_special_tokens=True) == own.decode(theirs, skip_special_tokens=True)
    assert len(merged("<|im_start|><tool>")["input_ids"]) == 2
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] > max(merged.get_vocab().values())


POOL = [
    "<a>",
    "<b>",
    "<a><b>",
    "<b>c",
    "<|x|>",
    "<|y y|>",
    " tool",
    "[I]",
    "héé",
    "日本",
    "\n\n",
    "  ",
    "word",
    "Word",
    "ing",
]


@pytest.mark.parametrize("seed", range(20))
def test_any_tokens_of_any_experts_are_found_in_their_texts_as_before(tmp_path: Path, base: Path, seed: int) -> None:
    """Random tokens, each found in its own way (special, with blanks, as a word), in one to three experts whose
    embeddings are padded or not."""
    draw = random.Random(seed)
    flags = {
        token: {key: draw.random() < 0.3 for key in ("special", "lstrip", "rstrip", "single_word", "normalized")}
        for token in POOL
    }
    folders = {"base": base}
    for name in ("one", "two", "three")[: draw.randint(1, 3)]:
        tokens = [AddedToken(token, **flags[token]) for token in draw.sample(POOL, draw.randint(0, 6))]
        folders[name] = extended(base, tmp_path / name, tokens, seed, multiple=draw.choice([None, 64, 3]), size=0.0)
    checked = check(folders, draw.choice([None, *folders]))
    merged = AutoTokenizer.from_pretrained(tokenizer_folder(checked.basis, checked.tokenizer_from, tmp_path / "cache"))
    tokenizers = {name: AutoTokenizer.from_pretrained(folder) for name, folder in folders.items()}
    added = {name: set(one.get_added_vocab()) for name, one in tokenizers.items()}
    assert set(merged.get_added_vocab()) == set().union(*added.values())
    assert max(merged.get_vocab().values()) < checked.basis.base.tensors[EMBEDDING].shape[0]
    for name, own in tokenizers.items():
        others = set().union(*added.values()) - added[name]
        for _ in range(40):
            text = "".join(draw.choice(["foo ", "bar", "x y", " z", *sorted(added[name])]) for _ in range(6))
            if not any(token in text for token in others):
                ours, theirs = merged(text)["input_ids"], own(text)["input_ids"]
                assert merged.convert_ids_to_tokens(ours) == own.convert_ids_to_tokens(theirs), text
                assert merged.decode(ours, skip_special_tokens=True) == own.decode(theirs, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "LlamaTokenizer", "Qwen2Tokenizer", "GPT2Tokenizer"])
def test_a_tokenizer_of_any_class_keeps_its_tokens(
    tmp_path: Path, base: Path, folders: dict[str, Path], kind: str
) -> None:
    """Some classes build themselves anew from pieces and merges; older files list added tokens in three places."""
    found = {name: shutil.copytree(folders[name], tmp_path / name) for name in ("base", "chat", "tool")}
    for folder in found.values():
        settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": kind}
        table = {
            str(entry["id"]): entry for entry in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": table}))
        (folder / "added_tokens.json").write_text(
            json.dumps({entry["content"]: entry["id"] for entry in table.values()})
        )
    rebuild(recipe_of(found, 0.5, 0.5), found, tmp_path / "out")
    merged = AutoTokenizer.from_pretrained(tmp_path / "out")
    for name, text in (("chat", TEXTS[1]), ("tool", TEXTS[2])):
        own = AutoTokenizer.from_pretrained(found[name])
        ours, theirs = merged(text)["input_ids"], own(text)["input_ids"]
        assert merged.convert_ids_to_tokens(ours) == own.convert_ids_to_tokens(theirs)
        assert merged.decode(ours, skip_special_tokens=True) == own.decode(theirs, skip_special_tokens=True)
    number = merged.convert_tokens_to_ids("<|im_end|>")
    assert json.loads((tmp_path / "out" / "added_tokens.json").read_text())["<|im_end|>"] == number
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["added_tokens_decoder"][str(number)][
        "special"
    ]


def test_dare_and_ties_act_on_rows_by_token(folders: dict[str, Path]) -> None:
    basis, start = open_basis(folders), 257
    dare = recipe_of(folders, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, drop_rate=0.5)
    ours, theirs = by_token(folders["base"], EMBEDDING), by_token(folders["chat"], EMBEDDING)
    made = basis.merged_tensor(dare, EMBEDDING).double()
    for token, number in AutoTokenizer.from_pretrained(folders["base"]).get_vocab().items():
        kept = ours[token].double() + 2 * (theirs[token].double() - ours[token].double())
        near = torch.isclose(made[number], kept, rtol=2**-7, atol=1e-3) | torch.isclose(
            made[number], ours[token].double(), rtol=2**-7, atol=1e-6
        )
        assert near.all()
    ties = recipe_of(folders, 1.0, 1.0, 1.0, method="ties", parameters={"density": 1.0, "scale": 0.0})
    assert torch.equal(basis.merged_tensor(ties, EMBEDDING)[start], theirs["<|im_start|>"])


@pytest.mark.parametrize("method", ["coefficients", "ties"])
def test_a_range_of_rows_has_the_bits_of_the_whole(
    folders: dict[str, Path], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = (
        recipe_of(folders, 0.5, 0.25, -0.3)
        if method == "coefficients"
        else recipe_of(folders, 1.0, 0.5, 0.25, method="ties", parameters={"density": 0.3, "scale": 0.7})
    )
    whole = open_basis(folders).merged_tensor(recipe, EMBEDDING).clone()
    monkeypatch.setattr("psomerge.vocabulary.aligned.BLOCK", 7 * 64)
    basis = open_basis(folders)
    assert torch.equal(basis.merged_tensor(recipe, EMBEDDING), whole)
    for rows in (slice(0, 3), slice(250, len(whole)), slice(257, 258), slice(100, 100)):
        assert torch.equal(basis.merged_tensor(recipe, EMBEDDING, rows), whole[rows])


def test_padding_rows_are_nobody_s(tmp_path: Path, base: Path) -> None:
    found = {"base": base, "padded": extended(base, tmp_path / "padded", [], 4, multiple=64)}
    assert load_file(found["padded"] / "model.safetensors")[EMBEDDING].shape[0] == 320
    assert open_basis(found).base.tensors[EMBEDDING].shape[0] == 257
    assert open_basis(found, "padded").base.tensors[EMBEDDING].shape[0] == 320
    rebuild(recipe_of(found, 1.0), found, tmp_path / "out")
    assert torch.equal(
        load_file(tmp_path / "out" / "model.safetensors")[EMBEDDING],
        load_file(found["padded"] / "model.safetensors")[EMBEDDING][:257],
    )


# Adapters


def resized_lora(base: Path, folder: Path, tokens: list, seed: int, **settings) -> Path:
    """An adapter of a base that was given tokens before it was trained: PEFT stores embedding and head whole."""
    grown = extended(base, folder.parent / f"{folder.name}-base", tokens, 0, size=0.0)
    lora(grown, folder, seed, **settings)
    AutoTokenizer.from_pretrained(grown).save_pretrained(folder)
    change(folder, base_model_name_or_path=str(base))
    return folder


def test_an_adapter_may_bring_tokens(tmp_path: Path, base: Path, folders: dict[str, Path]) -> None:
    adapter = resized_lora(base, tmp_path / "adapter", CHAT, 5, modules_to_save=["embed_tokens", "lm_head"])
    whole = {"base": base, "adapter": adapter, "tool": folders["tool"]}
    peft = merged_by_peft(tmp_path / "adapter-base", adapter)
    ids = AutoTokenizer.from_pretrained(adapter).get_vocab()
    rebuild(recipe_of(whole, 1.0, 0.0), whole, tmp_path / "out")
    found, merged = (
        load_file(tmp_path / "out" / "model.safetensors"),
        AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab(),
    )
    assert set(ids) < set(merged)
    for tensor in (EMBEDDING, HEAD):
        for token, number in ids.items():
            torch.testing.assert_close(
                found[tensor][merged[token]].float(), peft[tensor][number], rtol=2**-7, atol=1e-4
            )
    name = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(found[name].float(), peft[name], rtol=2**-7, atol=1e-4)


def test_an_adapter_on_the_embedding_and_one_without_tokens_of_its_own_fit_beside_an_extended_expert(
    tmp_path: Path, base: Path, folders: dict[str, Path]
) -> None:
    """Their products are of the base's rows; the expert's new rows are none of theirs."""
    low = lora(base, tmp_path / "low", 6, target_modules=["embed_tokens", "q_proj"])
    found = {"base": base, "low": low, "chat": folders["chat"]}
    basis, peft = open_basis(found), merged_by_peft(base, low)
    made = basis.merged_tensor(recipe_of(found, 1.0, 0.0), EMBEDDING)
    torch.testing.assert_close(made[:257].float(), peft[EMBEDDING], rtol=2**-7, atol=1e-4)
    assert torch.equal(made[257], by_token(folders["chat"], EMBEDDING)["<|im_start|>"])
    assert list(basis.experts[0].low_rank) == [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(2)]


def test_an_adapter_of_a_tied_base_stores_its_embedding_twice(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", vocab=257)
    adapter = resized_lora(base, tmp_path / "adapter", CHAT, 5, modules_to_save=["embed_tokens", "lm_head"])
    stored = load_file(adapter / "adapter_model.safetensors")
    names = {tensor: f"base_model.model.{tensor}" for tensor in (EMBEDDING, HEAD)}
    assert not torch.equal(*(stored[name] for name in names.values()))
    with pytest.raises(ArtefactError, match=r"changes its head .* otherwise than the embedding, and in this base"):
        open_basis({"base": base, "adapter": adapter})
    save_file(stored | {names[HEAD]: stored[names[EMBEDDING]].clone()}, adapter / "adapter_model.safetensors")
    made = open_basis({"base": base, "adapter": adapter}).merged_tensor(
        recipe_of({"base": base, "adapter": adapter}, 1.0), EMBEDDING
    )
    torch.testing.assert_close(made.float(), stored[names[EMBEDDING]], rtol=2**-7, atol=1e-4)


def test_an_adapter_with_factors_on_a_resized_embedding_is_refused_with_a_way_out(tmp_path: Path, base: Path) -> None:
    adapter = resized_lora(base, tmp_path / "adapter", CHAT, 5, target_modules=["embed_tokens", "q_proj"])
    with pytest.raises(
        ArtefactError,
        match=r"embed_tokens.base_layer.weight' has shape \[259, 64\], the base \[257, 64\]; merge it .* "
        r"merge_and_unload",
    ):
        open_basis({"base": base, "adapter": adapter})


def test_an_adapter_that_was_resized_in_part_or_says_no_tokens_is_refused(tmp_path: Path, base: Path) -> None:
    adapter = resized_lora(base, tmp_path / "adapter", CHAT, 5, modules_to_save=["embed_tokens", "lm_head"])
    stored = load_file(adapter / "adapter_model.safetensors")
    without = {name: tensor for name, tensor in stored.items() if "lm_head" not in name}
    assert len(without) < len(stored)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / file).unlink()
    with pytest.raises(ArtefactError, match="has 259 rows in its embedding, the base 257, and no vocabulary tells"):
        check({"base": base, "adapter": adapter}, None)
    save_file(without, adapter / "adapter_model.safetensors")
    with pytest.raises(
        ArtefactError,
        match=r"has resized model\.embed_tokens\.weight, expected model\.embed_tokens\.weight, lm_head\.weight",
    ):
        open_basis({"base": base, "adapter": adapter})


# Rows that a base keeps free


def named(tmp_path: Path, **tokens: str) -> dict[str, Path]:
    """Members of a family of which each gives row 7 another name."""
    added = {token: number for number, token in enumerate(LLAMA3["tokens"], 5)}
    folders = {name: member(tmp_path / name, LLAMA3, "base", seed=seed) for seed, name in enumerate(("base", *tokens))}
    for name, token in tokens.items():
        edit_tokens(folders[name], added={(token if number == 7 else old): number for old, number in added.items()})
    return folders


def test_a_row_that_the_base_keeps_free_is_the_expert_s_that_names_it(tmp_path: Path) -> None:
    folders = named(tmp_path, chat="<|im_start|>")
    checked = check(folders, None)
    assert (checked.tokenizer_from, checked.warnings) == ("base", ())
    content = json.loads(checked.basis.base.edited["tokenizer.json"])
    assert [(entry["id"], entry["content"]) for entry in content["added_tokens"]][2] == (7, "<|im_start|>")
    made = checked.basis.merged_tensor(recipe_of(folders, 0.25), EMBEDDING)
    ours, theirs = (load_file(folder / "model.safetensors")[EMBEDDING] for folder in folders.values())
    assert torch.equal(made[7], theirs[7])
    torch.testing.assert_close(made[6], 0.75 * ours[6] + 0.25 * theirs[6])


def test_two_names_of_one_free_row_get_a_row_each(tmp_path: Path) -> None:
    folders = named(tmp_path, one="<|im_start|>", two="<tool>")
    basis = check(folders, None).basis
    assert {
        entry["content"]: entry["id"] for entry in json.loads(basis.base.edited["tokenizer.json"])["added_tokens"][2:]
    } == {
        "<|im_start|>": 7,
        "<|eot_id|>": 8,
        "<tool>": 9,
    }
    rows = load_file(folders["two"] / "model.safetensors")[EMBEDDING]
    assert torch.equal(basis.merged_tensor(recipe_of(folders, 0.5, 0.5), EMBEDDING)[9], rows[7])


def test_equal_vocabularies_are_merged_row_by_row_as_ever(tmp_path: Path, base: Path) -> None:
    folders = {"base": base, "plain": extended(base, tmp_path / "plain", [], 3)}
    basis = open_basis(folders)
    assert basis.vocabulary == ""
    assert type(basis.base).__name__ == "Checkpoint"
    assert "vocabulary" in recipe_of(folders, 1.0).to_dict()
    without = {key: value for key, value in recipe_of(folders, 1.0).to_dict().items() if key != "vocabulary"}
    assert from_dict(without).digest() == recipe_of(folders, 1.0).digest()


def test_a_recipe_of_another_vocabulary_is_refused(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders, 0.1, 0.1, 0.1, tokenizer_from="tool")
    with pytest.raises(ArtefactError, match=r"merges vocabularies of digest .*, these checkpoints of digest"):
        open_basis(folders, "base").merged_tensor(recipe, EMBEDDING)
    assert recipe.digest() != recipe_of(folders, 0.1, 0.1, 0.1).digest()


# What is asked, told and refused


def test_no_word_is_needed_where_tokens_are_only_added(folders: dict[str, Path]) -> None:
    checked = check(folders, None)
    assert checked.tokenizer_from == "base"
    assert [warning for warning in checked.warnings if "token" in warning.what] == []
    assert checked.basis.vocabulary == recipe_of(folders, 0, 0, 0).vocabulary != ""


def test_a_tokenizer_whose_numbers_the_library_would_change_is_refused(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """The library counts added tokens on, so a hole in a file moves all that follow."""
    base = extended(folders["base"], tmp_path / "base", [AddedToken("<a>"), AddedToken("<b>")], 7, multiple=10)
    edit_tokens(base, added={"<a>": 257, "<b>": 259})
    with pytest.raises(
        ArtefactError,
        match=r"the tokenizers library gives '<b>' id 258, the file 259, .*; give its added tokens ids that follow",
    ):
        check({"base": base, "chat": folders["chat"]}, None)
    assert check({"base": base, "chat": folders["chat"]}, "chat").basis.union is not None


def test_a_tokenizer_that_the_library_does_not_take_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    folders = {name: Path(shutil.copytree(folders[name], tmp_path / name)) for name in ("base", "chat")}
    for folder in folders.values():
        edit(folder, "tokenizer.json", normalizer={"type": "Unheard"})
    with pytest.raises(
        ArtefactError, match=r"tokenizer\.json: the tokenizers library does not take it: .*; fetch the file again"
    ):
        check(folders, None)


def test_one_token_added_in_two_ways_needs_a_word(tmp_path: Path, base: Path) -> None:
    folders = {
        "base": base,
        "one": extended(base, tmp_path / "one", [AddedToken("<tool>", special=True)], 1),
        "two": extended(base, tmp_path / "two", ["<tool>"], 2),
    }
    with pytest.raises(
        ConfigError, match=r"one and two added '<tool>' in different ways .*; say whose to use with tokenizer_from"
    ):
        check(folders, None)
    checked = check(folders, "two")
    assert checked.basis.named("two").edited == {}
    (warning,) = checked.warnings
    assert (warning.expert, warning.what, warning.found) == ("one", "added tokens", "'<tool>'")
    assert '"two", else the first of the others, decides' in warning.advice
    made = json.loads(check(folders, "base").basis.base.edited["tokenizer.json"])["added_tokens"]
    assert next(entry for entry in made if entry["content"] == "<tool>")["special"] is True  # the first expert's word


def test_an_added_word_is_told_of(tmp_path: Path, base: Path) -> None:
    folders = {"base": base, "te": extended(base, tmp_path / "te", ["నమస్కారం", "hello"], 1)}
    (warning,) = check(folders, None).warnings
    assert (warning.expert, warning.what) == ("te", "added words")
    assert "'hello'" in warning.found


def test_pieces_of_its_own_need_a_word_and_are_lost_with_the_other_tokenizer(tmp_path: Path) -> None:
    """As where a sentencepiece vocabulary was made longer: what cuts its texts are its pieces and their order."""
    added = {token: number for number, token in enumerate(LLAMA3["tokens"], 6)}
    long = LLAMA3 | {"tokens": ["cc", *LLAMA3["tokens"]]}
    folders = {
        "base": member(tmp_path / "base", LLAMA3, "base"),
        "te": member(tmp_path / "te", long, "base", seed=1, bos_token_id=6, eos_token_id=7),
    }
    edit_tokens(folders["te"], {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "c": 4, "cc": 5}, added)
    with pytest.raises(
        ConfigError, match=r"te \(with tokens of its own: 'cc' \(id 5\)\) differ from the base's; say which one to use"
    ):
        check(folders, None)
    chosen = check(folders, "te").basis
    ours, theirs = (load_file(folder / "model.safetensors")[EMBEDDING] for folder in folders.values())
    made = chosen.merged_tensor(recipe_of(folders, 0.5, tokenizer_from="te"), EMBEDDING)
    assert torch.equal(made[5], theirs[5])
    torch.testing.assert_close(made[6:], (ours[5:] + theirs[6:]) / 2)  # the base's added tokens, one row further
    lost = {warning.what: warning for warning in check(folders, "base").warnings}["tokens of its own"]
    assert lost.found == "'cc' (id 5)"
    made = check(folders, "base").basis.merged_tensor(recipe_of(folders, 0.5), EMBEDDING)
    torch.testing.assert_close(made[5:], (ours[5:] + theirs[6:]) / 2)


def test_a_published_recipe_without_its_vocabulary_s_files_cannot_be_rebuilt(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    recipe = recipe_of(folders, 0.5, 0.5, 0.0)
    write_model(recipe, open_basis(folders), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["vocabulary"] == recipe.vocabulary
    other = dict(folders, chat=folders["plain"])
    with pytest.raises(ArtefactError, match="expected SHA-256"):
        rebuild(recipe, other, tmp_path / "again")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([0, 1, 2], [(0, 3)]),
        ([], []),
        ([-1, -1, 0, 1], [(0, 2), (2, 4)]),
        ([3, 4, -1, 5, 7, 6], [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6)]),
    ],
)
def test_runs_are_rows_that_follow_each_other(rows: list[int], expected: list[tuple[int, int]]) -> None:
    assert [(run.start, run.stop) for run in runs(torch.tensor(rows, dtype=torch.int64))] == expected


@pytest.mark.parametrize("number", [257, 2**31 - 2])
def test_a_token_without_a_row_anywhere_is_refused_where_others_follow_it(
    tmp_path: Path, folders: dict[str, Path], number: int
) -> None:
    """As of a tokenizer that was given a padding token whose embedding was not resized."""
    base = Path(shutil.copytree(folders["base"], tmp_path / "base"))
    edit_tokens(base, added={"<pad>": number})
    same = Path(shutil.copytree(base, tmp_path / "same"))
    assert open_basis({"base": base, "same": same}).union is None
    with pytest.raises(
        ArtefactError,
        match=rf"""tokenizer of "base" has tokens for which no checkpoint has a row: '<pad>' \(id {number}\)""",
    ):
        check({"base": base, "chat": folders["chat"]}, None)
    basis = check({"base": base, "chat": folders["chat"]}, "chat").basis
    assert (basis.base.tensors[EMBEDDING].shape[0], basis.union.added) == (259, {})


def test_a_checkpoint_without_a_tokenizer_has_the_base_s(tmp_path: Path, folders: dict[str, Path]) -> None:
    bare = extended(folders["base"], tmp_path / "bare", [], 9)
    for file in bare.glob("*token*"):
        file.unlink()
    opened = [
        open_checkpoint(folder, name)
        for name, folder in {"base": folders["base"], "chat": folders["chat"], "bare": bare}.items()
    ]
    merged = union(opened[0], opened[1:], opened[0])
    assert merged is not None
    assert merged.sources["bare"].tolist() == [*range(257), -1, -1]
