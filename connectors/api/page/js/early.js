// Before the first paint, so that no other theme flashes up.
(function () {
  try {
    const theme = localStorage.getItem("labelstream.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    const language = localStorage.getItem("labelstream.language");
    if (language === "ru" || language === "en") document.documentElement.lang = language;
  } catch {
    // Without storage the browser's preferences hold.
  }
})();
