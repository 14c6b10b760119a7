"use strict";
const LOST = "The connection to the server was lost. Reload the page to see what was applied.";
const element = (id) => document.getElementById(id);

function log(text, kind) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = kind || "";
  element("log").append(line);
}

function finish(title) {
  element("run-title").textContent = title;
  element("statement").hidden = true;
}

function fail(text, title = "The run failed") {
  finish(title);
  element("run").classList.add("problem");
  log(text, "bad");
  element("after").hidden = false;
  element("reload").focus();
}

const receive = {
  planned(data) { element("bar").max = Math.max(data.total, 1); },
  started(data) { element("run-title").textContent = `Running ${data.revision} of ${data.package}`; },
  applied(data) {
    element("statement").hidden = true;
    element("bar").value += 1;
    log(`✓ ${data.revision} ${data.message} (${Math.round(data.seconds * 1000)} ms)`, "done");
  },
  statement(data) {
    element("statement").hidden = false;
    element("seconds").textContent = data.seconds;
    element("statement").querySelector("code").textContent = data.text;
  },
  note(data) { log(data.text); },
  failed(data) { fail(data.text); },
};

async function run(form, button) {
  document.querySelector("h1").textContent = button.textContent;
  document.querySelector("main").classList.add("running");
  element("run").hidden = false;
  element("run-title").focus();
  const fields = new URLSearchParams(new FormData(form));
  fields.set("do", button.value);
  const response = await fetch(form.action, { method: "POST", body: fields, headers: { Accept: "text/event-stream" } });
  if (!response.ok) {
    fail((await response.json()).error, "Nothing was changed");
    return;
  }
  let isOver = false, rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part), data = /^data: (.*)$/m.exec(part);
      if (!name) continue;
      isOver ||= name[1] === "done" || name[1] === "failed";
      if (name[1] === "done") {
        finish("Done");
        const next = new URL(form.elements.next.value, location.href);
        location.replace(next.origin === location.origin ? next : "/");
      } else {
        receive[name[1]](JSON.parse(data[1]));
      }
    }
  }
  if (!isOver) fail(LOST);
}

document.querySelectorAll("form.press").forEach((form) => {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form, event.submitter).catch(() => fail(LOST));
  });
});
element("reload")?.addEventListener("click", () => location.reload());
