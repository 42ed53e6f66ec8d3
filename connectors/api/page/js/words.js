// Each: Russian, English.

export const WORDS = {
  skip: ["К содержанию", "Skip to content"],
  sections: ["Разделы", "Sections"],
  theme: ["Тема", "Theme"], light: ["Светлая", "Light"], dark: ["Тёмная", "Dark"], auto: ["Авто", "Auto"],
  language: ["Язык", "Language"],
  sign_in: ["Войти", "Sign in"], sign_out: ["Выйти", "Sign out"], key: ["Ключ API", "API key"],
  sign_in_about: ["Вход по ключу из настройки API_KEYS.", "With a key of the setting API_KEYS."],
  signed_in: ["Вы вошли: {name}", "Signed in: {name}"], read_only: ["только чтение", "read only"],
  no_keys: ["Ключи не заданы: только эта машина", "No keys are set: this machine only"],
  live: ["обновляется каждую секунду", "updated every second"], away: ["связь потеряна, пробуем снова", "connection lost, trying again"],
  connecting: ["соединение…", "connecting…"],
  more: ["показать всё", "show all"], less: ["свернуть", "show less"], yes: ["Да", "Yes"], no: ["Отмена", "Cancel"],
  close: ["Закрыть", "Close"], refresh: ["Обновить", "Refresh"], nothing: ["Пока ничего нет.", "Nothing yet."],
  failed: ["Не вышло: {detail}", "It failed: {detail}"], loading: ["Загрузка…", "Loading…"],
  per_second: ["/с", "/s"], unit_s: ["с", "s"], unit_min: ["мин", "min"], unit_h: ["ч", "h"], unit_d: ["дн", "d"],
  problem: ["Не отвечает: {what}. Показано последнее известное.", "Does not answer: {what}. Shown is what was known last."],

  flow: ["Поток", "Flow"], labels: ["Метки", "Labels"], feed: ["Лента", "Feed"], letters: ["Недоставленное", "Dead letters"],
  replays: ["Повторы и версии", "Replays & versions"], review: ["Проверка", "Review"], audit: ["Журнал", "Audit"],

  flow_about: ["Поток строк: от источника до таблиц", "The rows' way, from the source to the tables"],
  source: ["Источник", "Source"], tables: ["Таблицы", "Tables"], dead: ["Недоставленное", "Dead letters"], replay: ["Повторы", "Replays"],
  rows_topic: ["Строки", "Rows"], labeled_topic: ["С метками", "Labelled"], augmented_topic: ["С вариантами", "Augmented"],
  stage_poll: ["опрос", "poller"], stage_label: ["разметка", "label"], stage_augment: ["варианты", "augment"], stage_store: ["запись", "sink"], stage_replay: ["повтор", "replay"],
  lag: ["ждут {lag}", "{lag} waiting"], oldest: ["старшая {age}", "oldest {age}"], up_to_date: ["всё сделано", "up to date"],
  polled: ["опрошен {age} назад", "polled {age} ago"], not_polled: ["нет опроса", "not polled"],
  stage: ["Этап", "Stage"], rate: ["Скорость", "Rate"], waiting: ["Ждут", "Waiting"], oldest_row: ["Старшая ждёт", "Oldest waits"], done: ["Сделано", "Done"],
  stages: ["Этапы", "Stages"], throughput: ["Скорость, строк в секунду", "Throughput, rows a second"], lags: ["Очередь этапов, сообщений", "Waiting before each stage, messages"],
  labeled_rows: ["Размечено строк", "Labelled rows"], augmented_rows: ["С вариантами", "With variants"], dead_rows: ["Недоставленных", "Dead letters"], now_rate: ["Сейчас размечается", "Labelled now"],
  endpoint: ["Модель: {name}", "Model: {name}"], labeler: ["разметка", "labelling"], augmenter: ["варианты", "variants"],
  limit: ["Предел запросов", "Request limit"], in_flight: ["В работе", "In flight"], queue: ["Ждут здесь", "Queued here"], endpoint_queue: ["Ждут у модели", "Queued at the model"],
  calls: ["Запросов", "Calls"], errors: ["Ошибок", "Errors"], tokens_in: ["Токенов на входе", "Tokens read"], tokens_out: ["Токенов на выходе", "Tokens written"], saved: ["Сбережено вызовов", "Calls saved"],
  available: ["отвечает", "answers"], unavailable: ["не отвечает", "away"], no_endpoint: ["Агенты не сообщают о себе на этой машине.", "No agents report on this machine."], reason: ["Причина предела", "Why this limit"],
  roles: ["Процессы", "Processes"], role: ["Роль", "Role"], ready: ["Готовы", "Ready"], processes: ["Процессов", "Processes"],

  distribution: ["Метки: последние сутки и неделя до них", "Labels: the last day and the week before"], last_day: ["сутки", "last day"], last_week: ["неделя до них", "week before"],
  label: ["Метка", "Label"], rows: ["Строк", "Rows"], share: ["Доля", "Share"], change: ["Изменение", "Change"], confidence: ["Уверенность", "Confidence"], histogram: ["Уверенность за сутки, строк", "Confidence over the day, rows"],
  until: ["до {at}", "until {at}"], points: ["{n} п. п.", "{n} pp"],

  feed_about: ["Новые метки по мере поступления", "New labels as they arrive"], pause: ["Пауза", "Pause"], go_on: ["Продолжить", "Go on"], search: ["Искать в таблицах", "Search the tables"],
  text: ["Текст", "Text"], time: ["Время", "Time"], at_most: ["Уверенность не выше", "Confidence at most"], find: ["Найти", "Find"], back_live: ["К ленте", "Back to the feed"], next: ["Дальше", "More"], found: ["Найдено: {n}", "Found: {n}"],
  any: ["любая", "any"], cached: ["из памяти", "from memory"], row: ["Строка {id}", "Row {id}"], details: ["История", "History"], version: ["Версия", "Version"], model: ["Модель", "Model"], current: ["текущая", "current"], variants: ["Варианты", "Variants"],

  letters_about: ["Что не удалось обработать, и почему", "What could not be processed, and why"], only_open: ["только открытые", "open ones only"], step: ["Шаг", "Step"], why: ["Причина", "Reason"], payload: ["Содержимое", "Payload"], bytes: ["байты (base64)", "bytes (base64)"],
  open: ["открыто", "open"], resolved: ["решено", "resolved"], retry: ["Повторить", "Retry"], retried: ["Отправлено ещё раз.", "Sent to be tried again."], all: ["все", "all"], error: ["Ошибка", "Error"], state: ["Состояние", "State"], retrying: ["отправлено", "sent"], left: ["Осталось: {why}", "Left: {why}"],

  job: ["Задание", "Job"], progress: ["Ход", "Progress"], remaining: ["Осталось", "Remaining"], actions: ["Действия", "Actions"], resume: ["Продолжить", "Resume"], cancel: ["Остановить", "Stop"],
  cancel_sure: ["Остановить {id}? Продолжить можно и потом.", "Stop {id}? It can still be resumed."], jobs: ["Повторы, файлы и дозагрузки", "Replays, files and backfills"], versions: ["Версии меток", "Label versions"],
  promote: ["Сделать текущей", "Promote"], retire: ["Убрать", "Retire"], promote_sure: ["Сделать {version} текущей для всех её строк?", "Make {version} the current one of all its rows?"], retire_sure: ["Больше не показывать {version}?", "Show {version} no more?"],
  promoted: ["Текущая версия: {version}", "The current version: {version}"], compare: ["Сравнить", "Compare"], from_version: ["Было", "From"], to_version: ["Стало", "To"], agreement: ["Совпадает {share} из {rows} строк", "{share} of {rows} rows agree"], only: ["только в {version}: {n}", "only in {version}: {n}"],
  changes: ["Что меняется", "What changes"], examples: ["Показательные примеры", "Telling examples"],
  state_waiting: ["ждёт", "waiting"], state_publishing: ["идёт", "publishing"], state_working: ["дорабатывается", "working"], state_done: ["готово", "done"], state_paused: ["пауза", "paused"], state_cancelled: ["остановлено", "stopped"], state_interrupted: ["прервано", "interrupted"], state_dropped: ["удалено", "dropped"],
  status_promoted: ["принята", "promoted"], status_trial: ["пробная", "trial"], status_retired: ["убрана", "retired"],
  source_topic: ["строки", "rows topic"], source_table: ["таблица меток", "labels"], source_source: ["источник", "source table"], source_file: ["файл", "file"],

  review_about: ["Сначала строки, в которых модель меньше всего уверена", "The rows that the model is least sure of come first"], human_labels: ["С метками людей", "Labelled by people"], to_review: ["Без них", "Without"], unsure: ["Из них ниже 0,6", "Under 0.6 of those"],
  mine: ["Ваша очередь", "Your queue"], model_said: ["Модель: {label}, {confidence}", "Model: {label}, {confidence}"], skip_row: ["Пропустить", "Skip"], undo: ["Отменить", "Undo"], other: ["Другая метка", "Another label"], keys_help: ["метка", "label"], move_help: ["строки", "rows"],
  undone: ["Отменено: {row}", "Taken back: {row}"], session_done: ["За этот сеанс: {n}", "This session: {n}"], gold: ["Скачать эталон", "Download the gold set"], no_rows: ["Проверять нечего: у всех строк есть метки людей, или их взяли другие.", "Nothing to review: every row has a human label, or others have it."], may_not: ["Ваш ключ только для чтения.", "Your key may read only."],

  audit_about: ["Кто, что и когда сделал", "Who did what, and when"], who: ["Кто", "Who"], action: ["Действие", "Action"], target: ["Над чем", "On what"], result: ["Итог", "Result"], detail: ["Подробности", "Detail"], address: ["Адрес", "Address"],
};
