"""Texts to hold tokenizers against their oracle: written phrases, and random ones from everything that splits
differently somewhere. The same seed gives the same texts."""

import random

# Words to build from, one line a script.
PHRASES = """
The quick brown fox doesn't jump over the lazy dog's bowl; it's 3.14159 o'clock.
Les élèves français naïfs préfèrent l'été où l'œuvre coûte 1 234,56 €.
Größe, Übermut und Straßenfußgänger — „Zitat“ ›innen‹ 12.345,67 €.
Η γρήγορη καφετιά αλεπού πηδάει πάνω από τον τεμπέλη σκύλο. Ὦ ἄνδρες Ἀθηναῖοι
Съешь же ещё этих мягких французских булок, да выпей чаю. Ґудзик її єдиний
الثعلب البني السريع يقفز فوق الكلب الكسول، ١٢٣٤٥ مَرْحَبًا بِالْعَالَمِ؟
השועל החום המהיר קופץ מעל הכלב העצלן. שָׁלוֹם עוֹלָם ״ציטוט״
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है। क्षत्रिय १२३ हिन्दी
দ্রুত বাদামী শিয়াল অলস কুকুরের উপর লাফ দেয়। ১২৩ কৃষ্ণ
விரைவான பழுப்பு நரி சோம்பேறி நாயின் மேல் குதிக்கிறது. ௧௨௩ ஸ்ரீ
వేగవంతమైన గోధుమ రంగు నక్క సోమరి కుక్కపైకి దూకుతుంది. ౧౨౩
สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ ๑๒๓ ภาษาไทยไม่มีช่องว่าง
ໝາຈິ້ງຈອກສີນ້ຳຕານໂດດຂ້າມໝາຂີ້ຄ້ານ ໑໒໓ ພາສາລາວ
កញ្ជ្រោងពណ៌ត្នោតលោតពីលើឆ្កែខ្ជិល ១២៣ ភាសាខ្មែរ។
სწრაფი ყავისფერი მელა გადაახტა ზარმაც ძაღლს. ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ
Արագ շագանակագույն աղվեսը ցատկում է ծույլ շան վրայով։ ԲԱՐԵՎ և
ፈጣኑ ቡናማ ቀበሮ በሰነፉ ውሻ ላይ ዘለለ። ፩፪፫ አማርኛ
敏捷的棕色狐狸跳过了懒狗。他说：“你好，世界！”（第１２３章）《红楼梦》、〇零
素早い茶色の狐がのろまな犬を飛び越える。カタカナ・ひらがな　全角スペース「引用」ｶﾞｷﾞ
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 한국어 ㅋㅋㅋ ㅠㅠ 한글
ᠬᠤᠷᠳᠤᠨ ᠬᠦᠷᠡᠩ ᠦᠨᠡᠭᠡ ᠵᠠᠯᠬᠠᠭᠤ ᠨᠣᠬᠠᠢ ᠳᠡᠭᠡᠭᠦᠷ ᠦᠰᠦᠷᠪᠡ᠃
བོད་སྐད་ནི་སྐད་ཡིག་ཅིག་ཡིན། ༡༢༣ བཀྲ་ཤིས་བདེ་ལེགས།
Tiếng Việt có dấu: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.
ಕನ್ನಡ ಭಾಷೆ ೧೨೩ മലയാളം ഭാഷ ൧൨൩ ગુજરાતી ૧૨૩ ਪੰਜਾਬੀ ੧੨੩ ଓଡ଼ିଆ සිංහල မြန်မာစာ ၁၂၃
ᎠᏂᏴᏫᏯᎢ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦᚨᚱᚲ 𐌰𐌱𐌲 𝓗𝓮𝓵𝓵𝓸 𝟙𝟚𝟛 𠀀𠀁 ꙮ ꧋ ⵜⵉⴼⵉⵏⴰⵖ
""".strip().split("\n")

CODE = [
    "def f(x):\n    return {'a': x**2, \"b\": [1, 2, 3]}  # comment\n\n\nif __name__ == '__main__':\n\tprint(f(10))\n",
    "for (int i = 0; i < n; ++i) {\r\n\t\tsum += a[i] * 0x1F;\r\n}\r\n",
    '<html><body class="x"><table>\n<tr><td>&nbsp;</td></tr></table></body></html>',
    "SELECT * FROM t WHERE id >= 10 AND name LIKE '%x%' -- ok\n",
    "https://example.com/a/b?c=d&e=f#g user@host.org C:\\dir\\file.txt $PATH ${x} `ls -la` 1e-9 v1.2.3",
    '{"key": [null, true, -1.5e+10], "nested": {"a": "\\u00e9\\n"}}',
]

CONTRACTIONS = [
    "I'm",
    "you're",
    "we've",
    "they'll",
    "he'd",
    "it's",
    "don't",
    "I'M",
    "YOU'RE",
    "WE'VE",
    "THEY'LL",
    "HE'D",
    "IT'S",
    "DON'T",
    "'Tis",
    "'s",
    "'S",
    "'ſ",
    "it'ſ",
    "''s",
    "a's's",
    "x'll'd",
    "’s",
    "y'all",
    "'re're",
    "'lL",
    "'Ve",
    "'r",
    "'v",
    "'l",
    " 's",
    "\n's",
    "3's",
    "!'s",
    "'",
]

EMOJI = ["😀", "👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "❤️‍🔥", "1️⃣", "🧑🏿‍💻", "☺︎", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]

SPACES = [
    " ",
    "  ",
    "   ",
    "    ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    " \n",
    "\n ",
    " \n \n  ",
    "\u00a0",
    "\u00a0\u00a0",
    "\u3000",
    "\u3000\u3000",
    "\u2003",
    "\u2009",
    "\u200a ",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u1680",
    "\v",
    "\f",
    "\u205f",
    "\u202f",
    "\t \t",
    " \u00a0 ",
    " " * 16,
    " " * 31,
    " " * 33,
    "\n" * 5,
    "\n" * 33,
    "\t" * 9,
]

ODD = [
    "\u0000",
    "\u0001",
    "\u0004",
    "\u0006",
    "\u0013",
    "\u001b[0m",
    "\u007f",
    "\u0080",
    "\u009f",
    "\u00ad",
    "\u200b",
    "\u200c",
    "\u200d",
    "\u200e",
    "\u2060",
    "\ufeff",
    "\ufffd",
    "\ufffe",
    "\U0010ffff",
    "\ue000",
    "\u0378",
    "\U000e0001",
    "\U00011de5",
    "\U00016ff4",
    "a\u0301",
    "e\u0301\u0327",
    "q\u0307\u0323",
    "\u0301",
    "\u0301a",
    "A\u030a",
    "\u212b",
    "\u2126",
    "\u1100\u1161\u11a8",
    "\uac00\u11a8",
    "\u0958",
    "\u0915\u093c",
    "\u0344",
    "\u1e9b\u0323",
    "\uf900",
    "\U0002f800",
    "\u0f73",
    "ﬁ",
    "ß",
    "ẞ",
    "İ",
    "ı",
    "Dž",
    "Ⅷ",
    "½",
    "²",
    "①",
    "٣",
    "〇",
    "一二三",
    "々",
    "ー",
    "▁",
    "▁▁",
    "a▁b",
    "▁▁▁a",
    "␣",
    "Ġ",
    "Ċ",
    "âĢĻ",
    "º",
    "ª",
    "ʰ",
    "ǅ",
    "＇ｓ",
    "\u0940",
    "\u0903",
    "\u093e",
]

PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + [
    "...",
    "--",
    "//",
    "/\n",
    "!\n\n",
    "?!/",
    "…",
    "—",
    "。",
    "，",
    "、",
    "؟",
    "।",
    "۔",
    "،",
    "«",
    "»",
    "“",
    "”",
    "€",
    "£",
    "¥",
    "°",
    "±",
    "√",
    "→",
    "|>",
    "<|",
    "$$",
    "^~",
    "`",
    "++",
    "(((",
    ")))\n",
    ");\n\n\n",
]

DIGITS = [
    "0",
    "7",
    "10",
    "123",
    "1234",
    "12345",
    "123456",
    "1234567",
    "1,234,567.89",
    "2024-01-31",
    "12:34:56",
    "٠١٢٣٤",
    "१२३४",
    "１２３４",
    "123٣4",
    "1½",
    "x86",
    "3D",
    "a1b2c3",
    "4️⃣2",
]

CASES = [
    "camelCase",
    "PascalCase",
    "SHOUTING",
    "XMLHttpRequest",
    "iPhone15ProMAX",
    "ABCあDE",
    "あABC",
    "漢字Kanji漢字",
    "Übergröße",
    "ÜBER",
    "ΑΒΓαβγ",
    "ДОМдом",
    "ǅabc",
    "ABʰCD",
    "aªb",
    "MacBook's",
    "ABC'll",
    "A'S",
    "É\u0301A",
    "\u0301AB1",
    "\u0301A\u0301b",
]


def random_word(rng):
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(rng.choice(PHRASES).split(" "))
    if kind == 3:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 12)))
    if kind == 4:
        return rng.choice(CONTRACTIONS)
    if kind == 5:
        return rng.choice(CASES)
    if kind == 6:
        return rng.choice(DIGITS)
    phrase = rng.choice(PHRASES)
    start = rng.randrange(len(phrase))
    return phrase[start : start + rng.randint(1, 8)]


def random_code_point(rng):
    bands = (
        (0x00, 0x80),
        (0x80, 0x250),
        (0x250, 0x600),
        (0x600, 0x1100),
        (0x1100, 0x2000),
        (0x2000, 0x3000),
        (0x3000, 0xA000),
        (0xA000, 0xD800),
        (0xE000, 0x10000),
        (0x10000, 0x12000),
        (0x12000, 0x1E000),
        (0x1E000, 0x20000),
        (0x20000, 0x32000),
        (0xE0000, 0x110000),
    )
    return chr(rng.randrange(*rng.choice(bands)))


def random_text(rng):
    """One of several mixtures, up to a few hundred characters."""
    kind = rng.randrange(6)
    length = rng.randint(1, 40)
    if kind == 0:
        return "".join(random_code_point(rng) for _ in range(length))
    if kind == 1:
        small = [
            rng.choice(rng.choice((SPACES, ODD, PUNCTUATION, DIGITS, CASES, CONTRACTIONS))) for _ in range(4)
        ]
        return "".join(rng.choice(small) for _ in range(length))
    if kind == 2:
        letters = rng.choice(
            (
                "aA'sS \n",
                "aA1 .\r\n",
                "a \t\n\u00a0",
                "A\u0301あaʰ'S1",
                "x/\n! ",
                "1٣½²a ",
                "\u0301\u0323a \u1161\u1100\u11a8",
            )
        )
        return "".join(rng.choice(letters) for _ in range(length))
    parts = []
    for _ in range(length):
        pool = rng.randrange(10)
        if pool < 5:
            parts.append(random_word(rng))
        else:
            parts.append(rng.choice((SPACES, ODD, PUNCTUATION, EMOJI, SPACES)[pool - 5]))
        if kind != 3 and rng.random() < 0.6:
            parts.append(" ")
    return "".join(parts)


def fixed_texts():
    texts = [
        "",
        " ",
        "a",
        *PHRASES,
        *CODE,
        *CONTRACTIONS,
        *EMOJI,
        *SPACES,
        *ODD,
        *PUNCTUATION,
        *DIGITS,
        *CASES,
    ]
    texts += [
        "  leading",
        "trailing  ",
        "\n\nboth\n\n",
        " a  b   c    d ",
        "Hello, world!",
        "".join(EMOJI),
        " ".join(EMOJI),
    ]
    texts += [w + s + "x" for s in SPACES for w in ("a", "!", "1", "\n")]
    texts += [PHRASES[i] + PHRASES[j] for i, j in ((0, 18), (5, 6), (17, 0), (19, 4))]
    return texts


def texts(count, seed=1):
    rng = random.Random(seed)
    return fixed_texts() + [random_text(rng) for _ in range(count)]


def long_texts(size=1 << 20):
    """{name: text} of about `size` bytes that trap what is not linear."""
    rng = random.Random(7)
    prose = " ".join(random_word(rng) for _ in range(size // 6))
    fill = lambda unit: unit * (size // len(unit.encode()))
    return {
        "a": fill("a"),
        "spaces": fill(" "),
        "newlines": fill("\n"),
        "space newline": fill(" \n"),
        "emoji": fill("😀"),
        "letter digit": fill("a1"),
        "digits": fill("1"),
        "upper": fill("A"),
        "upper lower": fill("Aa"),
        "apostrophes": fill("'"),
        "dots": fill("."),
        "marks": "a" + fill("\u0301"),
        "marks of two classes": "a" + fill("\u0301\u0323"),
        "jamo": fill("\u1100\u1161\u11a8"),
        "spaces then a": fill(" ") + "a",
        "Han": fill("狐狸"),
        "uncased then upper": "あ" + fill("D"),
        "angle": fill("<"),
        "prefix of special": fill("<|im_star"),
        "tabs": fill("\t"),
        "base64": "".join(
            rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
            for _ in range(size)
        ),
        "prose": prose,
    }


def invalid_texts(count, seed=2):
    """Byte strings that are not UTF-8 (some are, by chance)."""
    rng = random.Random(seed)
    result = [
        b"\xff",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"a\x80b",
        b"\xe2\x82\xe2\x82\xac",
        b"\xf0\x80\x80\x80",
    ]
    for _ in range(count):
        if rng.random() < 0.5:
            result.append(rng.randbytes(rng.randint(1, 40)))
        else:
            data = bytearray(random_text(rng).encode())
            for _ in range(rng.randint(1, 4)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            result.append(bytes(data))
    return result
