// Fetches the page again while somebody looks at it. Without this script a browser
// reloads it.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh);
  if (!seconds) return;
  const busy = () => document.hidden || document.querySelector("#main :is(input, select):focus") || String(getSelection());
  const refresh = async () => {
    if (busy()) return;
    const age = document.getElementById("age");
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById("main");
      if (next && !busy()) document.getElementById("main").replaceWith(next);
      age.textContent = page.getElementById("age").textContent;
    } catch {
      age.textContent = "The node does not answer; what you see is old.";
    }
  };
  setInterval(refresh, seconds * 1000);
})();
