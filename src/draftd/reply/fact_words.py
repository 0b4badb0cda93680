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
WEEKDAY_ENDINGS: Final = (
    "s|es|e?(?:morgen|früh|vormittag|mittag|nachmittag|abend|nacht)s?|"  # German
    "y[ae]|[ae]|[dt][ae]n?|y?[iuü]|n?[iuü]n|leri|lari|den|dan"  # Turkish cases
)
JAPANESE_WEEKDAYS: Final = "月火水木金土日"

TOMORROW: Final = frozenset({"tomorrow", "tmrw", "tmr", "morgen", "demain", "mañana", "amanhã", "domani", "yarin"})
TODAY: Final = frozenset(
    {"today", "tonight", "heute", "aujourd", "hoy", "hoje", "oggi", "stasera", "bugün", "akşam"}
    | {"morning", "evening", "afternoon", "noon"}
)
AFTER_TOMORROW: Final = (
    "day after tomorrow", "übermorgen", "après-demain", "après demain", "pasado mañana", "depois de amanhã", "dopodomani",
    "öbür gün", "ertesi gün", "明後日", "あさって",
)  # fmt: skip

NOON: Final = frozenset({"noon", "midday", "midi", "mediodía", "mezzogiorno", "mittag", "öğlen", "öğlende"})
MIDNIGHT: Final = frozenset({"midnight", "mitternacht", "minuit", "medianoche", "mezzanotte"})
NOON_PHRASES: Final = ("meio-dia", "meio dia", "正午")
MIDNIGHT_PHRASES: Final = ("meia-noite", "meia noite", "gece yarisi", "真夜中")

CURRENCIES: Final = {
    word: code
    for code, words in {
        "EUR": "€ eur euro euros",
        "BRL": "r$ brl reais real",
        "$": "$",
        "USD": "us$ usd dollar dollars bucks dólares dólar dollari dolar",
        "GBP": "£ gbp pound pounds quid pfund libras livres sterline sterlin",
        "JPY": "¥ jpy yen 円",
        "TRY": "₺ try tl lira liraya liradan lirayi",
        "CHF": "chf franken sfr fr.",
        "INR": "₹ inr rupees",
        "PLN": "pln zł",
        "SEK": "sek",
        "NOK": "nok",
        "DKK": "dkk",
        "MXN": "mxn",
        "ARS": "ars",
        "COP": "cop",
        "CLP": "clp",
    }.items()
    for word in words.split()
}

UNITS: Final = {
    word: unit
    for unit, words in {
        "minute": "minute minutes min mins minuten minuto minutos minuti dakika dakikada dakikaya 分 分ほど 分間",
        "hour": "hour hours hrs stunde stunden std heure heures h hora horas ora ore saat saatte saate 時間",
        "day": "day days tag tage tagen jour jours día días dia dias giorno giorni gün günde güne günü 日間",
        "week": "week weeks woche wochen semaine semaines semana semanas settimana settimane hafta haftada haftaya 週間",
        "month": "month months monat monate monaten mois mes meses mês mese mesi ay ayda aya か月 ヶ月 ヵ月 カ月",
        "year": "year years yrs jahr jahre jahren an ans année années año años ano anos anno anni yil yilda 年間",
        "percent": "% percent prozent pour por per per cento 割",
        "km": "km kilometer kilometers kilometre kilometres kilometern kilomètres kilómetros quilômetros "
        "chilometri kilometre kilo̱metre キロ",
        "gram": "g gr gramm gram grams gramme grammes gramos gramas grammo grammi グラム",
        "kg": "kg kilo kilos kilogramm kilogramos quilos chili",
        "millilitre": "ml milliliter millilitres mililitros millilitri",
        "litre": "l liter litre litres liters litro litros litri",
        "metre": "m meter meters metre metres metern mètres metro metros metri",
        "centimetre": "cm zentimeter centimètres centímetros centimetri santim",
        "millimetre": "mm millimeter",
        "square metre": "qm sqm m² quadratmeter quadratmetern",
        "gigabyte": "gb go",
        "megabyte": "mb mo",
        "terabyte": "tb",
        "time": "times mal fois veces vez vezes volte kez kere defa 回 度",
        "page": "page pages seite seiten páginas página pagine pagina sayfa ページ 枚",
        "person": "people persons person personen leute personnes personas pessoas persone kişi kişiyiz 人 名",
        "night": "night nights nacht nächte nuits noches noites notti gece 泊",
        "inch": "inch inches zoll pouces pulgadas polegadas pollici inç インチ",
        "drop": "drops tropfen gouttes gotas gocce damla 滴",
        "piece": "pieces stück pièces piezas peças pezzi adet 個 本 冊 か所 ヶ所 台 点 杯 件 階 号 歳 番",
    }.items()
    for word in words.split()
    if word not in {"pour", "por", "per"}
}

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
        "cosas",
        "cosa",
        "preguntas",
        "puntos",
        "opciones",
        "razones",
        "ideas",
        "palabras",
        "coisas",
        "coisa",
        "perguntas",
        "pontos",
        "opções",
        "ideias",
        "cose",
        "domande",
        "punti",
        "opzioni",
        "idee",
        "motivi",
        "parole",
        "şey",
        "soru",
        "konu",
        "nokta",
        "seçenek",
        "つ",
    ]
)
"""What a small count of is no fact: "two things"."""
