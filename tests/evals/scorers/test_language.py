"""Whether an answer is in the asked language: tags of all standards, scripts, look-alikes, and languages that cannot be
told."""

import socket
import struct
from pathlib import Path

import pytest

from psomerge.errors import ConfigError
from psomerge.evals.scorers.language import InLanguage
from psomerge.evals.writing.language_tags import language

SENTENCES = {
    "eng_Latn": "All human beings are born free and equal in dignity and rights.",
    "som_Latn": "Aadanaha dhammaantiis wuxuu dhashaa isagoo xor ah kana siman xagga sharafta iyo xuquuqda.",
    "zho_Hans": "人人生而自由，在尊严和权利上一律平等。",
    "zho_Hant": "人人生而自由，在尊嚴和權利上一律平等。",
    "rus_Cyrl": "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "srp_Cyrl": "Сва људска бића рађају се слободна и једнака у достојанству и правима.",
    "srp_Latn": "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima.",
    "arb_Arab": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "uig_Arab": "ھەممە ئادەم زانىدىنلا ئەركىن، ئىززەت-ھۆرمەت ۋە ھوقۇقتا باپباراۋەر بولۇپ تۇغۇلغان.",
    "kaz_Cyrl": "Барлық адамдар тумысынан азат және қадір-қасиеті мен құқықтары тең болып дүниеге келеді.",
    "bod_Tibt": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ།",
    "swh_Latn": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.",
    "tuk_Latn": "Hemme adamlar öz mertebesi we hukuklary boýunça deň ýagdaýda dünýä inýärler.",
    "hau_Latn": "Su dai yan-adam, ana haifuwarsu ne duka yantattu, kuma kowannensu na da mutunci da hakkoki daidai da "
    "na "
    "kowa.",
    "jpn_Jpan": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
}
"""The first sentence of article 1 of the Universal Declaration of Human Rights, in the United Nations' translations."""


def holds(tag: str, text: str) -> bool:
    (value,) = InLanguage(tag).score([], [text], {})
    assert value in (0.0, 1.0)
    return value == 1.0


@pytest.mark.parametrize("tag", SENTENCES)
def test_a_sentence_is_in_its_own_language_and_in_no_other(tag: str) -> None:
    assert {other for other in SENTENCES if holds(other, SENTENCES[tag])} == {tag}


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        *[
            ("so", "so"),
            ("som", "so"),
            ("tel_Telu", "te"),
            ("en-GB", "en"),
            ("zh-Hant", "zh"),
            ("zho_Hans", "zh"),
            ("cmn", "zh"),
            ("tgl", "fil"),
            ("fil", "fil"),
        ],
        *[
            ("azj", "az"),
            ("arb", "ar"),
            ("acm_Arab", "ar"),
            ("arz", "ar"),
            ("nob", "no"),
            ("nb", "no"),
            ("no", "no"),
            ("nno", "nn"),
            ("pes", "fa"),
        ],
        *[
            ("prs", "fa"),
            ("swh", "sw"),
            ("ydd", "yi"),
            ("khk", "mn"),
            ("mvf_Mong", "mn"),
            ("uzn", "uz"),
            ("lvs", "lv"),
            ("als", "sq"),
            ("plt", "mg"),
        ],
        *[
            ("npi", "ne"),
            ("ory", "or"),
            ("zsm", "ms"),
            ("gaz", "om"),
            ("pbt", "ps"),
            ("quy", "qu"),
            ("ekk", "et"),
            ("hbs", "sr"),
            ("kmr", "ku"),
        ],
    ],
)
def test_tags_of_every_standard_come_to_one_code(tag: str, code: str) -> None:
    assert language(tag).code == code


@pytest.mark.parametrize("tag", ["arz", "fuv", "gug", "hbo", "kik", "no", "quy", "tl"])
def test_a_label_of_the_identifier_is_folded_like_a_tag(tag: str) -> None:
    # Folding one side only would make every answer in these languages wrong, without an error.
    InLanguage(tag)


def test_a_tag_with_a_script_asks_for_the_script() -> None:
    assert language("zho_Hans").scripts == ("Hans",)
    assert language("zh").scripts == ("Hans", "Hant")
    assert holds("zh", SENTENCES["zho_Hans"])
    assert holds("zh", SENTENCES["zho_Hant"])
    assert not holds("zh-Hant", SENTENCES["zho_Hans"])


def test_languages_that_no_identifier_tells_apart_count_as_one_in_their_script() -> None:
    assert holds("hrv_Latn", SENTENCES["srp_Latn"])
    assert not holds("hrv_Latn", SENTENCES["srp_Cyrl"])
    assert holds("acm_Arab", SENTENCES["arb_Arab"])


@pytest.mark.parametrize("text", ["", "  \n ", "42", "3.5 % (12)", "😀"])
def test_an_answer_without_letters_is_in_no_language(text: str) -> None:
    assert not holds("en", text)


def test_names_in_latin_letters_do_not_make_an_answer_english() -> None:
    assert holds("zh", "这个函数叫做 load_model，请在 Python 中使用它。")
    assert not holds("zh", "Sure! The translation of your sentence into Chinese is as follows: 人人生而自由")


@pytest.mark.parametrize("tag", SENTENCES)
def test_a_sentence_is_in_its_language_in_every_unicode_form(tag: str) -> None:
    import unicodedata

    for form in ("NFD", "NFKD", "NFKC"):
        assert holds(tag, unicodedata.normalize(form, SENTENCES[tag])), form


def test_letters_in_a_shape_or_width_of_their_own_are_letters_of_the_language() -> None:
    wide = {ord(letter): ord(letter) + 0xFEE0 for letter in map(chr, range(0x21, 0x7F))}
    assert holds("en", SENTENCES["eng_Latn"].translate(wide))
    assert holds("so", SENTENCES["som_Latn"].translate(wide))
    assert not holds("en", SENTENCES["som_Latn"].translate(wide))
    # yeh-waw-lam-dal "is born" and so on, in presentation forms of the Arabic letters
    shapes = {"ي": "\ufef3", "و": "\ufeee", "ل": "\ufedf", "د": "\ufeaa", "م": "\ufee3", "ن": "\ufee7", "ا": "\ufe8e"}
    assert holds("arb_Arab", SENTENCES["arb_Arab"].translate(str.maketrans(shapes)))
    assert holds("jpn_Jpan", "ﾆﾎﾝﾉ ﾃﾝｷﾊ ﾄﾃﾓ ｲｲﾃﾞｽﾈ。それはとてもいいことです。")


def test_lines_are_read_as_one_text() -> None:
    assert holds("so", SENTENCES["som_Latn"].replace(" ", "\n"))


@pytest.mark.parametrize("tag", ["kac_Latn", "hin_Latn", "tir_Ethi", "uig_Latn", "und", "english", "", "x1"])
def test_a_language_that_cannot_be_told_is_said_when_the_suite_is_loaded(tag: str) -> None:
    with pytest.raises(ConfigError, match=f"{tag!r}"):
        InLanguage(tag)


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert holds("sw", SENTENCES["swh_Latn"])


def write_fasttext_model(path: Path, words: dict[str, str]) -> Path:
    """A fastText model file, version 12: each label is an axis, a word lies on its label's, and the end of a line,
    which every model knows, on none."""
    labels = sorted(set(words.values()))
    entries = [(word, 0) for word in ("</s>", *words)] + [(f"__label__{label}", 1) for label in labels]
    # dim, ws, epoch, minCount, neg, wordNgrams, loss (3: softmax), model (3: supervised), bucket, minn, maxn,
    # lrUpdateRate; t
    data = struct.pack("<2i12id", 793712314, 12, len(labels), 5, 1, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    data += struct.pack("<3i2q", len(entries), 1 + len(words), len(labels), len(entries), -1)
    for text, kind in entries:
        data += text.encode() + b"\0" + struct.pack("<qb", 1, kind)
    rows = [[9.0 * (label == axis) for axis in labels] for label in ("", *words.values())]
    identity = [[1.0 * (label == axis) for axis in labels] for label in labels]
    for matrix in (rows, identity):
        data += struct.pack("<?2q", False, len(matrix), len(labels)) + b"".join(
            struct.pack(f"<{len(row)}f", *row) for row in matrix
        )
    path.write_bytes(data)
    return path


def test_a_fasttext_model_brings_languages_that_the_shipped_identifier_lacks(tmp_path: Path) -> None:
    model = str(
        write_fasttext_model(tmp_path / "lid.bin", {"ngai": "kac_Latn", "namaste": "hin_Latn", "hello": "eng_Latn"})
    )
    outputs = ["ngai ngai", "hello", "hello namaste namaste", ""]
    assert InLanguage("kac_Latn", model).score([], outputs, {}) == [1.0, 0.0, 0.0, 0.0]
    assert InLanguage("hin_Latn", model).score([], outputs, {}) == [0.0, 0.0, 1.0, 0.0]
    with pytest.raises(ConfigError, match=r"lid\.bin does not know 'som_Latn'"):
        InLanguage("som_Latn", model)
    with pytest.raises(ConfigError, match="does not know 'hin_Deva'"):
        InLanguage("hin_Deva", model)


def test_a_file_that_is_no_identifier_is_said_when_the_suite_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_text("no model at all")
    for name, text in (("text.bin", "no supervised fastText model"), ("absent.bin", "no file")):
        with pytest.raises(ConfigError, match=text):
            InLanguage("so", str(tmp_path / name))
