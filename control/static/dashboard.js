// Copies keys, and refreshes the steps of an operation that is under way. Without it the pages still work.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

const progress = document.querySelector("[data-progress][data-live]");
if (progress) {
  const stay = "stay" in progress.dataset;
  const show = (html) => {
    const reply = document.createElement("template");
    reply.innerHTML = html;
    for (const part of reply.content.querySelectorAll("[data-part]")) {
      part.remove();
      document.querySelector(`[data-part="${part.dataset.part}"]`)?.replaceChildren(...part.childNodes);
    }
    progress.replaceChildren(reply.content);
  };
  const look = async () => {
    let wait = 1000;
    try {
      const reply = await fetch(progress.dataset.progress, { redirect: "error", headers: { Accept: "text/html" } });
      if (reply.ok) {
        show(await reply.text());
        if (reply.headers.get("x-authsome-live") === "no") {
          // A page that shows a key once must not go away by itself.
          if (!stay) location.reload();
          return;
        }
      } else {
        wait = 5000;
      }
    } catch {
      wait = 5000;
    }
    setTimeout(look, wait);
  };
  setTimeout(look, 1000);
} else if (document.querySelector("td .status:is(.provisioning, .updating, .restarting, .deleting, .purging)") && !document.querySelector("details[open]")) {
  setTimeout(() => location.reload(), 5000);
}
