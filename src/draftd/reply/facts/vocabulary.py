"""The words that facts are made of, in eight languages: months, weekdays, currencies, units, times of day.

All words are lower case with the Turkish dotless i folded to ``i``. Tables of all languages are merged where no word means two
things, so that a source may be in another language than the reply.
"""

from typing import Final

LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "it", "tr", "ja")


def _numbered(*rows: str) -> dict[str, int]:
    return {word: number for row in rows for number, words in enumerate(row.split(), 1) for word in words.split("/")}


MONTHS: Final = _numbered(
    "january february march april may june july august september october november december",
    "januar/jänner februar/feber märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre/setiembre octubre noviembre diciembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "ocak şubat mart nisan mayis haziran temmuz ağustos eylül ekim kasim aralik",
)
MONTH_ABBREVIATIONS: Final = {
    "en": _numbered("jan feb mar apr may jun jul aug sep/sept oct nov dec"),
    "de": _numbered("jan/jän feb mär/mrz apr mai jun jul aug sep/sept okt nov dez"),
    "fr": _numbered("janv févr/fév mars avr mai juin juil août sept oct nov déc"),
    "es": _numbered("ene feb mar abr may jun jul ago sep/sept oct nov dic"),
    "pt": _numbered("jan fev mar abr mai jun jul ago set out nov dez"),
    "it": _numbered("gen feb mar apr mag giu lug ago set/sett ott nov dic"),
    "tr": _numbered("oca şub mar nis may haz tem ağu eyl eki kas ara"),
}
AMBIGUOUS_MONTHS: Final = frozenset({"may", "march"})
"""They need a preposition before them, or a day beside them."""

WEEKDAYS: Final = _numbered(
    "monday tuesday wednesday thursday friday saturday sunday",
    "montag dienstag mittwoch donnerstag freitag samstag/sonnabend sonntag",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miércoles jueves viernes sábado domingo",
    "segunda terça quarta quinta sexta sábado domingo",
    "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    "pazartesi sali çarşamba perşembe cuma cumartesi pazar",
)
WEEKDAY_ABBREVIATIONS: Final = {
    "en": _numbered("mon tue/tues wed thu/thur/thurs fri sat sun"),
    "de": _numbered("mo di mi do fr sa so"),
    "fr": _numbered("lun mar mer jeu ven sam dim"),
    "es": _numbered("lun mar mié/mie jue vie sáb/sab dom"),
    "pt": _numbered("seg ter qua qui sex sáb/sab dom"),
    "it": _numbered("lun mar mer gio ven sab dom"),
    "tr": _numbered("pzt sal çar per cum cmt paz"),
}
ORDINAL_WEEKDAYS: Final = frozenset({"segunda", "terça", "quarta", "quinta", "sexta"})
"""Portuguese weekdays that are also ordinals: "a segunda opção"."""
WEEKDAY_ENDINGS: Final = {
    "de": "s|es|e?(?:morgen|früh|vormittag|mittag|nachmittag|abend|nacht)s?",
    "tr": "s|y[ae]|[ae]|[dt][ae]n?|y?[iuü]|n?[iuü]n|leri|lari|den|dan",
}
"""What follows a weekday in the same word; plurals end as in German, or are the same."""
JAPANESE_WEEKDAYS: Final = "月火水木金土日"

DAYS_AHEAD: Final = {
    word: ahead
    for ahead, words in {
        -2: "vorgestern anteayer antier anteontem l'altroieri おととい 一昨日",
        -1: "yesterday gestern hier ayer ontem ieri dün 昨日 昨夜",
        0: "today tonight heute aujourd'hui hoy hoje oggi stasera stamattina bugün akşam morning evening afternoon noon 今日 "
           "本日 今夜 今晩 今朝",
        1: "tomorrow tmrw tmr morgen demain mañana amanhã domani yarin 明日 あした",
        2: "übermorgen après-demain dopodomani 明後日 あさって",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Words that name a day by today."""
PHRASES_AHEAD: Final = {
    "day after tomorrow": 2, "après demain": 2, "pasado mañana": 2, "depois de amanhã": 2, "öbür gün": 2, "ertesi gün": 2,
    "day before yesterday": -2, "avant-hier": -2, "evvelsi gün": -2,
}  # fmt: skip
MONTHS_AHEAD: Final = {
    "this month": 0, "diesen monat": 0, "ce mois": 0, "este mes": 0, "este mês": 0, "questo mese": 0, "bu ay": 0, "今月": 0,
    "next month": 1, "nächsten monat": 1, "nächster monat": 1, "mois prochain": 1, "próximo mes": 1, "mes que viene": 1,
    "mês que vem": 1, "próximo mês": 1, "prossimo mese": 1, "mese prossimo": 1, "gelecek ay": 1, "önümüzdeki ay": 1, "来月": 1,
    "last month": -1, "letzten monat": -1, "mois dernier": -1, "mes pasado": -1, "mês passado": -1, "mese scorso": -1,
    "geçen ay": -1, "先月": -1,
}  # fmt: skip
YEARS_AHEAD: Final = {
    "next year": 1, "nächstes jahr": 1, "nächsten jahr": 1, "année prochaine": 1, "an prochain": 1, "próximo año": 1,
    "año que viene": 1, "ano que vem": 1, "próximo ano": 1, "anno prossimo": 1, "prossimo anno": 1, "gelecek yil": 1,
    "önümüzdeki yil": 1, "seneye": 1, "来年": 1, "last year": -1, "letztes jahr": -1, "letzten jahr": -1, "année dernière": -1,
    "an dernier": -1, "año pasado": -1, "ano passado": -1, "anno scorso": -1, "geçen yil": -1, "geçen sene": -1, "去年": -1,
}  # fmt: skip
FEASTS: Final = {
    "christmas eve": (12, 24), "heiligabend": (12, 24), "nochebuena": (12, 24), "véspera de natal": (12, 24),
    "vigilia di natale": (12, 24), "réveillon de noël": (12, 24), "クリスマスイブ": (12, 24),
    "christmas": (12, 25), "weihnachten": (12, 25), "noël": (12, 25), "navidad": (12, 25), "natal": (12, 25),
    "natale": (12, 25), "クリスマス": (12, 25), "boxing day": (12, 26),
    "new year's eve": (12, 31), "silvester": (12, 31), "saint-sylvestre": (12, 31), "nochevieja": (12, 31),
    "san silvestro": (12, 31), "capodanno": (1, 1), "yilbaşi": (12, 31), "大晦日": (12, 31),
    "new year's day": (1, 1), "neujahr": (1, 1), "nouvel an": (1, 1), "año nuevo": (1, 1), "ano novo": (1, 1), "元日": (1, 1),
    "valentine's day": (2, 14), "valentinstag": (2, 14), "saint-valentin": (2, 14), "san valentín": (2, 14),
    "san valentino": (2, 14), "バレンタイン": (2, 14), "halloween": (10, 31), "ハロウィン": (10, 31),
}  # fmt: skip
"""Days with a name and a date."""
WEEKS: Final = frozenset({"kw", "week", "semaine", "semana", "settimana", "woche", "hafta"})

NOON: Final = frozenset({"noon", "midday", "midi", "mediodía", "mezzogiorno", "mittag", "mittags", "öğlen", "öğlende"})
MIDNIGHT: Final = frozenset({"midnight", "mitternacht", "minuit", "medianoche", "mezzanotte"})
NOON_PHRASES: Final = ("meio-dia", "meio dia", "正午")
VAGUE: Final = frozenset({"mittag", "mittags", "öğlen", "öğlende"})
"""They name a part of the day as well, and are no fact in a reply."""
MIDNIGHT_PHRASES: Final = ("meia-noite", "meia noite", "gece yarisi", "真夜中")

CURRENCIES: Final = {
    word: code
    for code, words in {
        "EUR": "€ eur euro euros ユーロ",
        "BRL": "r$ brl reais",
        "$": "$ peso pesos",
        "USD": "us$ usd dollar dollars bucks dólares dólar dollari dolar ドル",
        "GBP": "£ gbp pound pounds quid pfund libras livres sterline sterlin ポンド",
        "JPY": "¥ jpy yen 円",
        "TRY": "₺ try tl lira lirasi liraya liradan lirayi",
        "CHF": "chf franken francs franchi francos sfr fr. stutz",
        "INR": "₹ inr rupees",
        "PLN": "pln zł złoty zloty",
        "SEK": "sek kronor",
        "NOK": "nok",
        "DKK": "dkk",
        "MXN": "mxn",
        "ARS": "ars",
        "COP": "cop",
        "CLP": "clp",
    }.items()
    for word in words.split()
}

DOZENS: Final = frozenset(["dozen", "dutzend", "douzaines", "docenas", "dúzias", "dozzine", "düzine"])
HUNDREDTHS: Final = frozenset(
    [
        "cent",
        "cents",
        "ct",
        "pence",
        "rappen",
        "centime",
        "centimes",
        "céntimos",
        "cêntimos",
        "centavos",
        "centesimi",
        "kuruş",
    ]
)
"""Of a unit of money."""

UNITS: Final = {
    word: unit
    for unit, words in {
        "minute": "minute minutes min mins minuten minuto minutos minuti dakika dakikada dakikaya 分 分ほど 分間",
        "hour": "hour hours hrs stunde stunden std heure heures h hora horas ora ore saat saatte saate 時間",
        "day": "day days tag tage tagen jour jours día días dia dias giorno giorni gün günde güne günü 日間",
        "week": "week weeks woche wochen semaine semaines semana semanas settimana settimane hafta haftada haftaya 週間",
        "month": "month months monat monate monaten mois mes meses mês mese mesi ay ayda aya か月 ヶ月 ヵ月 カ月",
        "year": "year years yrs jahr jahre jahren an ans année années año años ano anos anno anni yil yilda 年間",
        "percent": "% percent prozent",
        "km": "km kilometer kilometers kilometre kilometres kilometern kilomètres kilómetros quilômetros "
        "chilometri kilometre キロ",
        "gram": "g gr gramm gram grams gramme grammes gramos gramas grammo grammi グラム",
        "kg": "kg kilo kilos kilogramm kilogramos quilos chili",
        "centilitre": "cl",
        "decilitre": "dl",
        "millilitre": "ml milliliter millilitres mililitros millilitri",
        "litre": "l liter litre litres liters litro litros litri",
        "metre": "m meter meters metre metres metern mètres metro metros metri",
        "centimetre": "cm zentimeter centimètres centímetros centimetri santim",
        "millimetre": "mm millimeter",
        "square metre": "qm sqm m² m2 quadratmeter quadratmetern",
        "gigabyte": "gb go",
        "megabyte": "mb mo",
        "terabyte": "tb",
        "time": "times mal fois veces vez vezes volte kez kere defa 回",
        "page": "page pages seite seiten páginas página pagine pagina sayfa ページ 枚",
        "person": "people persons person personen leute personnes personas pessoas persone kişi kişiyiz 人 名",
        "night": "night nights nacht nächte nuits noches noites notti gece 泊",
        "inch": "inch inches zoll pouces pulgadas polegadas pollici inç インチ",
        "drop": "drops tropfen gouttes gotas gocce damla 滴",
        "piece": "pieces stück pièces piezas peças pezzi adet 個 本 冊 か所 ヶ所 台 点 杯 件 階 号 歳 番",
    }.items()
    for word in words.split()
}
UNITS_OF: Final = {"an": "fr", "ans": "fr", "go": "fr", "mo": "fr", "mal": "de", "mes": "es", "ay": "tr"}
"""Units that are everyday words of other languages, and the one in which they are units."""
UNIT_SIGNS: Final = (
    "%|円|m²|m2|km²|分ほど|分間?|時間|日間|週間|か月|ヶ月|ヵ月|カ月|年間|回|度|枚|ページ|人|名|泊|滴|個|本|冊|か所|ヶ所|台|点|杯|件|階|つ|キロ|インチ|"
    "割"
)
"""Units that follow a number without a space before the next word."""
HALVES: Final = frozenset(["half", "hälfte", "moitié", "mitad", "metade", "metà", "yarisi", "yarisini", "半分", "半額"])

SMALL_THINGS: Final = frozenset(
    [
        "things",
        "thing",
        "questions",
        "question",
        "points",
        "point",
        "options",
        "ways",
        "reasons",
        "notes",
        "ideas",
        "thoughts",
        "quick",
        "small",
        "short",
        "more",
        "other",
        "minor",
        "cents",
        "words",
        "digits",
        "characters",
        "steps",
        "tips",
        "suggestions",
        "comments",
        "concerns",
        "changes",
        "examples",
        "remarks",
        "requests",
        "dinge",
        "sachen",
        "fragen",
        "frage",
        "punkte",
        "gründe",
        "ideen",
        "weitere",
        "kleine",
        "kurze",
        "anmerkungen",
        "worte",
        "schritte",
        "tipps",
        "vorschläge",
        "hinweise",
        "beispiele",
        "kleinigkeiten",
        "bitten",
        "rückfragen",
        "ziffern",
        "zeichen",
        "stellen",
        "choses",
        "chose",
        "questions",
        "points",
        "options",
        "idées",
        "raisons",
        "petites",
        "autres",
        "mots",
        "remarques",
        "étapes",
        "conseils",
        "suggestions",
        "exemples",
        "précisions",
        "chiffres",
        "cosas",
        "cosa",
        "preguntas",
        "puntos",
        "opciones",
        "razones",
        "ideas",
        "palabras",
        "pasos",
        "consejos",
        "sugerencias",
        "ejemplos",
        "cositas",
        "dígitos",
        "cifras",
        "coisas",
        "coisa",
        "perguntas",
        "pontos",
        "opções",
        "ideias",
        "passos",
        "dicas",
        "sugestões",
        "exemplos",
        "coisinhas",
        "dúvidas",
        "dudas",
        "dígitos",
        "cose",
        "domande",
        "punti",
        "opzioni",
        "idee",
        "motivi",
        "parole",
        "passaggi",
        "passi",
        "consigli",
        "suggerimenti",
        "esempi",
        "dubbi",
        "cifre",
        "şey",
        "soru",
        "konu",
        "nokta",
        "seçenek",
        "adim",
        "öneri",
        "örnek",
        "hane",
        "rakam",
        "つ",
    ]
)
"""What a small count of is no fact: "two things"."""
LABELS: Final = frozenset(["step", "schritt", "étape", "paso", "passo", "adim", "punkt", "tipp", "tip"])
"""A small number after these numbers the reply's own list."""
ALWAYS: Final = frozenset(["24/7", "7/24", "24h/24", "24/24", "50/50", "50-50", "1/1", "9-to-5", "catch-22", "high-5"])
"""Phrases with numbers that state nothing."""
NEAR: Final = frozenset(
    word
    for words in (
        "about around roughly nearly almost over under circa ca ca. approx approximately some",
        "rund etwa ungefähr knapp fast gut über unter",
        "environ presque quasi près vers plus moins",
        "unos unas casi aproximadamente cerca más menos",
        "uns umas quase mais perto",
        "oltre",
        "yaklaşik neredeyse",
        "約 およそ ほぼ",
    )
    for word in words.split()
)
"""Words before a number that was rounded."""
NEAR_TIME: Final = NEAR | frozenset(
    word
    for words in (
        "just shortly after before towards like",
        "gegen kurz nach vor so",
        "juste après avant",
        "sobre hacia después antes pelas volta depois",
        "verso poco dopo prima sulle",
    )
    for word in words.split()
)
"""The same before a time."""
