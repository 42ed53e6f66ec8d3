"""What is told and asked about a file, and why it or a record is refused, in English and Russian."""

from __future__ import annotations

from streams.core.errors import RefusedError
from streams.ports.files import LANGUAGES, Text

_TEXTS: dict[str, tuple[str, str]] = {
    "code page": (
        "The bytes are no UTF-8: read as {page}, in which the text looks most like Russian.",
        "Это не UTF-8: прочитано как {page}, так текст больше всего похож на русский.",
    ),
    "no code page": (
        "The bytes are no UTF-8, and no Russian text in any code page. Which encoding is it? {shown}",
        "Это не UTF-8 и ни в одной кодировке не русский текст. Какая это кодировка? {shown}",
    ),
    "code pages": (
        "The bytes are no UTF-8, and Russian text in several code pages: {shown}",
        "Это не UTF-8, а русский текст получается в нескольких кодировках: {shown}",
    ),
    "comments": (
        "{count} lines of comments are no rows: {shown}",
        "Строки комментариев ({count}) не читаются как записи: {shown}",
    ),
    "delimiters": (
        "The fields may be separated by {marks}, or each line is one text.",
        "Поля, возможно, разделены знаком {marks}, или каждая строка — один текст.",
    ),
    "unusual delimiter": (
        "Each line has the same number of wide blanks or unusual marks, so it may consist of several fields; "
        "none of the known delimiters separates them. Is each whole line a text?",
        "В каждой строке поровну широких пробелов или необычных знаков: возможно, это несколько полей, но "
        "известным разделителем они не разделены. Каждая строка целиком — текст?",
    ),
    "escapes": (
        r"Backslashes are read as escapes, as databases write them: \n is a line end.",
        r"Обратная косая черта читается как у баз данных: \n — конец строки.",
    ),
    "backslashes": (
        "Backslashes are read as they are, two as two.",
        "Обратная косая черта читается как есть, две — как две.",
    ),
    "backslash pairs": (
        'Pairs of backslashes are read as one, as where a quote is written as \\".',
        'Две обратные косые черты читаются как одна: так пишут там, где кавычка — это \\".',
    ),
    "header": (
        "Does the first record name the columns? It is {shown}.",
        "Первая запись — имена колонок? Вот она: {shown}.",
    ),
    "no header": (
        "No names of columns were found: the first record, {shown}, is a row.",
        "Имён колонок нет: первая запись, {shown}, читается как данные.",
    ),
    "before rows": (
        "{count} lines before the first row are no rows: {shown}",
        "Строки перед первой записью ({count}) не читаются как записи: {shown}",
    ),
    "before header": (
        "{count} lines before the names of the columns are no rows: {shown}",
        "Строки перед именами колонок ({count}) не читаются как записи: {shown}",
    ),
    "names twice": (
        "Several columns are called {name!r}: the first is taken, the second is {second!r}.",
        "Несколько колонок называются {name!r}: берётся первая, вторая — {second!r}.",
    ),
    "keys twice": (
        "Objects have {name!r} several times: the last value is read.",
        "В объектах несколько раз есть {name!r}: читается последнее значение.",
    ),
    "sheets": (
        "Several sheets hold something. Which has the rows?",
        "Что-то есть на нескольких листах. На каком строки?",
    ),
    "lists": (
        "Several parts of the document could be the rows. Which are they?",
        "Строками могут быть несколько частей документа. Какая из них?",
    ),
    "left out": (
        "Left out are columns that hold structures or are damaged: {names}",
        "Не читаются колонки, в которых структуры или повреждения: {names}",
    ),
    "export": (
        "The columns have no names: taken in the order of ClickHouse's export.",
        "У колонок нет имён: взяты в порядке выгрузки ClickHouse.",
    ),
    "some times": (
        "Only {share:.0%} of the first values of {name!r} are times.",
        "Только {share:.0%} первых значений в {name!r} — время.",
    ),
    "no times": (
        "{name!r} is named like a time, and no value of it can be read as one. Where is the time of the "
        "rows? {none!r}: they get the time of the upload.",
        "{name!r} называется как время, но ни одно значение не читается как время. Где время строк? "
        "{none!r}: они получат время загрузки.",
    ),
    "several times": (
        "Several columns hold times: {names}. Which is the time of the rows?",
        "Время есть в нескольких колонках: {names}. Какая из них — время строк?",
    ),
    "time by values": (
        "The time is taken from {name!r}, because of its values.",
        "Время взято из {name!r}: так выглядят значения.",
    ),
    "numbers as times": (
        "The numbers in {name!r} may be times. Are they?",
        "Числа в {name!r}, возможно, время. Это время?",
    ),
    "numbers": (
        "The numbers in {name!r} could be times, and are not taken as such.",
        "Числа в {name!r} могли бы быть временем, но так не прочитаны.",
    ),
    "text by values": (
        "The text is taken from {name!r}, because of its values.",
        "Текст взят из {name!r}: так выглядят значения.",
    ),
    "texts": (
        "Which column is the text? {names} could be.",
        "В какой колонке текст? Возможны {names}.",
    ),
    "dates undecided": (
        "In which order are day and month in {name!r}, as in {value!r}? In all of it no value decides it.",
        "В каком порядке день и месяц в {name!r}, например {value!r}? По значениям колонки не решить.",
    ),
    "dates contradict": (
        "In which order are day and month in {name!r}, as in {value!r}? The values contradict each other.",
        "В каком порядке день и месяц в {name!r}, например {value!r}? Значения противоречат друг другу.",
    ),
    "short years": (
        "The years in {name!r} have two digits: {value} as {time:%Y-%m-%d}.",
        "Годы в {name!r} из двух цифр: {value} — это {time:%Y-%m-%d}.",
    ),
    "excel days": (
        "The numbers in {name!r} are read as Excel's days since 1900.",
        "Числа в {name!r} прочитаны как дни Excel с 1900 года.",
    ),
    "clock": (
        "The day is in {name!r}, and the time of day is taken from {clock!r}.",
        "День — в {name!r}, а время суток взято из {clock!r}.",
    ),
    "clocks": (
        "The day is in {name!r}, and the time of day in one of {clocks}: it is left out.",
        "День — в {name!r}, а время суток — в одной из {clocks}: оно не взято.",
    ),
    "rounded": (
        "{name!r} holds numbers that a spreadsheet has rounded: digits of them are lost.",
        "В {name!r} числа, которые округлила таблица: часть цифр потеряна.",
    ),
    "fractions": (
        "{name!r} holds whole numbers that are written as fractions: {value!r}.",
        "В {name!r} целые числа записаны как дробные: {value!r}.",
    ),
    "structures": (
        "{name!r} holds structures: they are kept as JSON.",
        "В {name!r} структуры: они сохраняются как JSON.",
    ),
    "JSON texts": (
        "The texts are JSON: nothing is taken out of it, {value!r}.",
        "Тексты — JSON, из него ничего не взято: {value!r}.",
    ),
    "mojibake": (
        "The texts were read in a wrong encoding before: {value!r}.",
        "Тексты раньше уже прочитали не в той кодировке: {value!r}.",
    ),
    "letters lost": (
        "The letters of the texts were lost before: {value!r}.",
        "Буквы в текстах потеряны ещё раньше: {value!r}.",
    ),
    "times": (
        "{count} rows have a time before 2000 or in the future.",
        "Строки ({count}) со временем до 2000 года или в будущем.",
    ),
    "zones": (
        "{count} rows have a time with a zone whose name has other meanings, too. Taken as American: "
        "EST is UTC-5, EDT -4, CST -6, CDT -5, MST -7, MDT -6, PST -8, PDT -7.",
        "В строках ({count}) название часового пояса имеет и другие значения. Взято как в Америке: "
        "EST — это UTC-5, EDT -4, CST -6, CDT -5, MST -7, MDT -6, PST -8, PDT -7.",
    ),
    "nulls": (
        "{count} values such as NULL or NaN are read as no value.",
        "Значения вроде NULL и NaN ({count}) прочитаны как пустые.",
    ),
    "replaced": (
        "{count} texts hold U+FFFD: letters of them were lost before, or are no {encoding}.",
        "В текстах ({count}) есть U+FFFD: буквы потеряны раньше, или это не {encoding}.",
    ),
    "skipped": (
        "{count} of {rows} rows have too little text to label.",
        "В {count} из {rows} строк слишком мало текста для разметки.",
    ),
    "broken": (
        "{count} of {rows} records cannot be read: see `broken`.",
        "{count} из {rows} записей не читаются: см. `broken`.",
    ),
    "total": (
        "The last row looks like a total: {value!r}.",
        "Последняя строка похожа на итог: {value!r}.",
    ),
    # Why a record cannot be read.
    "open quote": ("a quote is opened and not closed", "кавычка открыта и не закрыта"),
    "bad quotes": ("the quotes are not as in CSV: {error}", "кавычки не как в CSV: {error}"),
    "long line": ("the line is longer than a million characters", "строка длиннее миллиона знаков"),
    "last backslash": ("the file ends with a backslash", "файл кончается обратной косой чертой"),
    "fields": (
        "{found} fields where {wanted} are expected",
        "полей {found}, а должно быть {wanted}",
    ),
    "names again": ("the names of the columns once more", "имена колонок ещё раз"),
    "types": ("the types of the columns", "типы колонок"),
    "dashes": ("a line of dashes", "строка из черт"),
    "bytes": ("bytes that are no {encoding} text", "байты, которые не текст в {encoding}"),
    "stray": (
        "not an object, but something between or after the objects",
        "не объект, а что-то между объектами или после них",
    ),
    "no JSON": ("this is no JSON: {error}", "это не JSON: {error}"),
    "no object": ("not an object", "не объект"),
    "structure": ("no text but a structure", "не текст, а структура"),
    "damaged value": ("the value is damaged: {error}", "значение повреждено: {error}"),
    "time missing": ("no time", "нет времени"),
    "time unreadable": ("no time that can be read: {value!r}", "время не читается: {value!r}"),
    # Why a file is refused.
    "no rows": ("the file holds no rows", "в файле нет строк"),
    "none readable": ("not one row of the file can be read", "ни одна строка файла не читается"),
    "many columns": ("{count} columns are too many", "слишком много колонок: {count}"),
    "no column readable": ("no column can be read: {names}", "ни одна колонка не читается: {names}"),
    "no file of rows": ("this is no text and no Parquet file", "это не текст и не файл Parquet"),
    "another encoding": ("this is no {encoding} text: {error}", "это не текст в {encoding}: {error}"),
    "no objects": (
        "this is JSON without objects: write one object a row, with the names of the columns",
        "это JSON без объектов: нужен один объект на строку, с именами колонок",
    ),
    "long object": (
        "the object in line {line} is longer than a million characters, or never ends",
        "объект в строке {line} длиннее миллиона знаков или не кончается",
    ),
    "deep JSON": ("the JSON is nested too deeply", "слишком много вложенных скобок JSON"),
    "no workbook": ("this is no workbook: {error}", "это не книга Excel: {error}"),
    "sheet unreadable": ("sheet {name!r} cannot be read: {error}", "лист {name!r} не читается: {error}"),
    "no Parquet": ("not a whole Parquet file: {error}", "это не целый файл Parquet: {error}"),
    "same names": (
        "two columns are called {name!r}: rename one of them",
        "две колонки называются {name!r}: переименуйте одну",
    ),
    "large workbook": (
        "this workbook is too large: save the sheet as CSV",
        "книга слишком велика: сохраните лист как CSV",
    ),
    "damaged workbook": ("the workbook is damaged at {name}", "книга повреждена: {name}"),
    "office document": (
        "this is an office document, not an .xlsx workbook",
        "это документ Office, а не книга .xlsx",
    ),
    "several files": (
        "the zip archive holds {count} files, not one: {names}",
        "в архиве zip файлов {count}, а не один: {names}",
    ),
    "password": ("the zip archive has a password", "у архива zip есть пароль"),
    "large content": (
        "the archive holds more than {most} bytes (API_UPLOAD_BYTES)",
        "в архиве больше {most} байт (API_UPLOAD_BYTES)",
    ),
    "damaged archive": ("this is a damaged archive: {error}", "архив повреждён: {error}"),
    "archive": ("this is an archive in an archive", "это архив в архиве"),
    "zip": ("this is a zip archive that holds no file of rows", "это архив zip, в котором нет файла строк"),
    "xz": ("this is an xz archive", "это архив xz"),
    "7z": ("this is a 7-Zip archive", "это архив 7-Zip"),
    "rar": ("this is a RAR archive", "это архив RAR"),
    "old office": (
        "this is an old Office file: save it as .xlsx or CSV",
        "это старый файл Office: сохраните его как .xlsx или CSV",
    ),
    "sqlite": ("this is an SQLite database", "это база SQLite"),
    "avro": ("this is an Avro file", "это файл Avro"),
    "orc": ("this is an ORC file", "это файл ORC"),
    "arrow": ("this is an Arrow file: save it as Parquet", "это файл Arrow: сохраните его как Parquet"),
    "pdf": ("this is a PDF file", "это файл PDF"),
    "rtf": ("this is an RTF file", "это файл RTF"),
    "xml": ("this is a page or an XML file", "это страница или файл XML"),
    "dump": (
        "this is a dump of PostgreSQL: save the table as CSV",
        "это дамп PostgreSQL: сохраните таблицу как CSV",
    ),
    "sql": ("this is SQL: save the table as CSV", "это SQL: сохраните таблицу как CSV"),
    "drawn": (
        "this is a table that is drawn: save it as CSV",
        "это нарисованная таблица: сохраните её как CSV",
    ),
    "no upload": ("there is no uploaded file {file}", "загруженного файла {file} нет"),
    # Why it is not processed.
    "no answer": (
        "{answer!r} is no answer to {about!r}: {choices}",
        "{answer!r} — не ответ на {about!r}: {choices}",
    ),
    "no question": (
        "there is no question {about!r}; asked is {asked}",
        "вопроса {about!r} нет; есть {asked}",
    ),
    "open questions": (
        'Give "answers": {{"{first}": CHOICE}}, or "accept": true for the guesses.',
        'Дайте "answers": {{"{first}": ВЫБОР}} или "accept": true, чтобы взять догадки.',
    ),
    "which text": (
        'which column is the text? Give "mapping": {{"text": COLUMN}}; there are {names}',
        'в какой колонке текст? Дайте "mapping": {{"text": КОЛОНКА}}; есть {names}',
    ),
    "personal names": (
        'a name of a column has personal data; is the first record a row? Then give "header": false',
        'в имени колонки персональные данные; первая запись — это строка? Тогда дайте "header": false',
    ),
    "no column": (
        "the file has no column {name!r} for {role}; it has {names}",
        "в файле нет колонки {name!r} для {role}; есть {names}",
    ),
}


def text(code: str, **values: object) -> Text:
    """A text in each language, which UTF-8 can encode."""
    return {
        language: template.format(**values).encode("utf-8", "replace").decode()
        for language, template in zip(LANGUAGES, _TEXTS[code], strict=True)
    }


def refused(code: str, *, reason: str, **values: object) -> RefusedError:
    """A refusal with a text in each language."""
    return RefusedError(text(code, **values), reason=reason)
