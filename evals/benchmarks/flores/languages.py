"""Languages of FLORES: their codes in FLORES-200 and FLORES+, and their English names. By Babel where it has a name,
and by a table where it has none.

The codes that suites use are those of FLORES-200, which Belebele and SIB-200 share: `swh_Latn`, a language by ISO 639-3
and its script.
"""

from functools import cache

IN_FLORES_PLUS = {
    "aka_Latn": "twi_Latn_akua1239",
    "ajp_Arab": "apc_Arab_sout3123",
    "apc_Arab": "apc_Arab_nort3139",
    "est_Latn": "ekk_Latn",
    "grn_Latn": "gug_Latn",
    "kon_Latn": "ktu_Latn",
    "tgl_Latn": "fil_Latn",
    "twi_Latn": "twi_Latn_asan1239",
    "tzm_Tfng": "zgh_Tfng",
    "zho_Hans": "cmn_Hans",
    "zho_Hant": "cmn_Hant",
}
"""Codes that FLORES+ writes differently."""

NAMES = {
    "acm": "Mesopotamian Arabic",
    "acq": "Ta'izzi-Adeni Arabic",
    "aeb": "Tunisian Arabic",
    "ajp": "South Levantine Arabic",
    "aka": "Akuapem Twi",
    "apc": "North Levantine Arabic",
    "ars": "Najdi Arabic",
    "azb": "South Azerbaijani",
    "ben": "Bengali",
    "cjk": "Chokwe",
    "fuv": "Nigerian Fulfulde",
    "hne": "Chhattisgarhi",
    "kbp": "Kabiyè",
    "kmr": "Northern Kurdish",
    "kon": "Kikongo",
    "mvf": "Mongolian",
    "pbt": "Pashto",
    "plt": "Malagasy",
    "quy": "Ayacucho Quechua",
    "taq": "Tamasheq",
    "twi": "Asante Twi",
    "tzm": "Central Atlas Tamazight",
    "zho_Hans": "Chinese",
    "zho_Hant": "Traditional Chinese",
    "mni_Beng": "Manipuri",
}
"""Where Babel has no name, or one that two languages of FLORES would share; by code or, before that, by language."""

TWO_SCRIPTS = ("ace", "arb", "ben", "bjn", "hin", "kas", "knc", "min", "npi", "sin", "taq", "urd")
"""Languages that Belebele, SIB-200 or FLORES has in two scripts; the name says which, but for the usual one."""

USUAL = {"arb_Arab", "ben_Beng", "hin_Deva", "npi_Deva", "sin_Sinh", "urd_Arab"}


def check_code(code: str) -> None:
    """Raises ValueError for a code that is not a language and a script, such as `swh_Latn`: known before the data are
    asked for."""
    from babel import Locale

    if code.partition("_")[2] not in Locale("en").scripts:
        raise ValueError(f"expected a language and a script, such as swh_Latn, found {code!r}")
    english_name(code)


@cache
def english_name(code: str) -> str:
    """Returns the English name of a language, e.g. "Swahili" of `swh_Latn` and "Acehnese (Arabic script)" of
    `ace_Arab`.

    Raises:
        ValueError: a code without a name.
    """
    from babel import Locale
    from babel.core import get_global

    language, _, script = code.partition("_")
    english = Locale("en")
    short = get_global("language_aliases").get(language, language)
    name = NAMES.get(code) or NAMES.get(language) or english.languages.get(language) or english.languages.get(short)
    if name is None:
        raise ValueError(f"language {code!r} has no English name in Babel and none in {__name__}; add it there")
    return f"{name} ({english.scripts[script]} script)" if language in TWO_SCRIPTS and code not in USUAL else name
