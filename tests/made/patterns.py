"""Regular expressions by which tokenizers cut text."""

_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}"
_NOT_HAN = r"&&[^\p{Han}]"


def cased(end: str = "]", after: str = _ENGLISH + "?") -> str:
    """Words in one case or with a capital."""
    return rf"{_BEFORE}{_UPPER}{end}*{_LOWER}{end}+{after}|{_BEFORE}{_UPPER}{end}+{_LOWER}{end}*{after}"


PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "GPT-4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
    r"\s*[\r\n]|\s+(?!\S)|\s",
    "Llama 3": rf"{_ENGLISH}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}|{_OTHER}|{_SPACES}",
    "Qwen 2": rf"{_ENGLISH}|{_BEFORE}\p{{L}}+|\p{{N}}|{_OTHER}|{_SPACES}",
    "Qwen 3.5": rf"{_ENGLISH}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "o200k": rf"{cased()}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    "Tekken": rf"{cased(after='')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    "Kimi K2": rf"[\p{{Han}}]+|{cased(_NOT_HAN + ']')}|\p{{N}}{{1,3}}|{_OTHER}|{_SPACES}",
    "DeepSeek-V3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| "
    rf"?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
    "DeepSeek, its letters": r"[一-龥ࠀ-一가-퟿]+",
    "Falcon": r"[\p{P}\$\+<=>\^~\|`]+",
    "Falcon, its digits": "[0-9][0-9][0-9]",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "SuperBPE": r"(?=(\d{3})+(?!\d))",
    "Aya": r"\d{1,3}(?=(?:\d{3})*\b)",
    "Jais 2": r"\p{L}+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{8}(?!\S)|\s{1,2}(?!\S)|\s{1}",
    "EXAONE": rf"{_ENGLISH}|{_BEFORE}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}|{_OTHER}|{_SPACES}",
    "Chameleon": r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "syllables": r"(?:\p{L}\p{M}*)+|\X",
    "addresses": r"https?://(?:[\w-]+\.)+[\w-]+(?:/[\w./?%&=-]*)?",
    "one character again and again": r"(\s)\1*",
    "identifiers": r"(?:[A-Z]?[a-z]+|[A-Z]+)+",
    "a list of words": "|".join(f"tok{number}" for number in range(3000)),
}
"""As their authors published them, by a model that has them, and a few that others have come to."""
