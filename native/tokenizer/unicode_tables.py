"""Writes unicode_classes.inc and unicode_nfc.inc: the Unicode properties that the tokenizers need.

Vocabularies are trained with PyPI's `tokenizers`, whose parts follow different Unicode versions: the regex
engine 16.0, Digits 17.0, the normalizer 9.0. The tables are therefore asked from that library itself, one
question a code point; `unicodedata` only lists the candidates. Run with the pinned oracle environment:

    python native/tokenizer/unicode_tables.py
"""

import pathlib
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# Order is the enum of unicode.h.
CATEGORIES = ["Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S"]
SPACE, NUMBER_LATER = 10, 11
NOT_NFC = 0x80
HANGUL = range(0xAC00, 0xD7A4)


def matching(pattern):
    """The code points that a one-character pattern matches, in batches that the engine finds quickly."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for start in range(0, len(CODE_POINTS), 4096):
        batch = CODE_POINTS[start : start + 4096]
        kept = set()
        for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, batch))):
            kept.update(range(begin, end))
        found.update(c for i, c in enumerate(batch) if i not in kept)
    return found


def numeric():
    """The code points that Digits isolates."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {c for c in CODE_POINTS if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3}


def combining_classes():
    """{code point: class} as the oracle's normalizer has them: marks it does not know keep their place."""
    nfd = normalizers.NFD()
    probes = [chr(c) for c in (0x334, 0x300, 0x345, 0x316)]
    result = {}
    for c in CODE_POINTS:
        if not unicodedata.combining(chr(c)):
            continue
        texts = ["a" + chr(c) + p for p in probes] + ["a" + p + chr(c) for p in probes]
        if all(nfd.normalize_str(t) == unicodedata.normalize("NFD", t) for t in texts):
            result[c] = unicodedata.combining(chr(c))
    return result


def decompositions():
    """[(code point, first, second or 0, whether the pair composes again)], one level, without Hangul."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    rows = []
    for c in CODE_POINTS:
        mapping = unicodedata.decomposition(chr(c))
        if not mapping or mapping.startswith("<") or c in HANGUL or nfd.normalize_str(chr(c)) == chr(c):
            continue
        parts = [int(x, 16) for x in mapping.split()]
        first, second = parts if len(parts) == 2 else (parts[0], 0)
        composes = second != 0 and nfc.normalize_str(chr(first) + chr(second)) == chr(c)
        rows.append((c, first, second, composes))
    return rows


def not_nfc(classes, pairs):
    """Characters that can make a text differ from its NFC: the others need no look."""
    nfc = normalizers.NFC()
    flagged = set(classes)
    flagged.update(c for c, _, _, _ in pairs if nfc.normalize_str(chr(c)) != chr(c))
    flagged.update(second for _, _, second, composes in pairs if composes)
    flagged.update(range(0x1161, 0x1176))
    flagged.update(range(0x11A8, 0x11C3))
    return flagged


def class_ranges(flagged):
    table = bytearray(0x110000)
    for index, category in enumerate(CATEGORIES, start=1):
        for c in matching(rf"\p{{{category}}}"):
            assert table[c] == 0, hex(c)
            table[c] = index
    for c in matching(r"\s"):
        assert table[c] == 0, hex(c)
        table[c] = SPACE
    for c in numeric():
        assert table[c] in (0, 7), hex(c)
        table[c] = table[c] or NUMBER_LATER
    for c in flagged:
        table[c] |= NOT_NFC
    return [(c << 8) | table[c] for c in range(0x110000) if c == 0 or table[c] != table[c - 1]]


def combining_ranges(classes):
    value = lambda c: classes.get(c, 0)
    return [(c << 8) | value(c) for c in range(0x110000) if c == 0 or value(c) != value(c - 1)]


def write(path, arrays):
    lines = ["// Written by unicode_tables.py; do not edit."]
    for comment, declaration, values in arrays:
        lines += ["", f"// {comment}", f"{declaration} = {{"]
        line = "   "
        for value in values:
            text = f" 0x{value:x},"
            if len(line) + len(text) > 110:
                lines.append(line)
                line = "   "
            line += text
        lines += [line, "};"]
    path.write_text("\n".join(lines) + "\n")


def main():
    folder = pathlib.Path(__file__).parent
    classes, pairs = combining_classes(), decompositions()
    write(
        folder / "unicode_classes.inc",
        [
            (
                "Start of a range << 8 | its class: a UnicodeCategory, 0x80 added where NFC may change the text.",
                "constexpr uint32_t kClassRanges[]",
                class_ranges(not_nfc(classes, pairs)),
            )
        ],
    )
    write(
        folder / "unicode_nfc.inc",
        [
            (
                "Start of a range << 8 | its canonical combining class.",
                "constexpr uint32_t kCombiningRanges[]",
                combining_ranges(classes),
            ),
            (
                "Character << 43 | first << 22 | second << 1 | whether the pair composes; by character.",
                "constexpr uint64_t kDecompositions[]",
                [
                    (c << 43) | (first << 22) | (second << 1) | composes
                    for c, first, second, composes in pairs
                ],
            ),
        ],
    )


if __name__ == "__main__":
    main()
