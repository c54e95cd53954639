"use strict";
// A link's token is in the fragment, which no browser sends: it is moved into the form.
const link = document.getElementById("link");
if (link && location.hash.length > 1) {
  link.elements.link.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  link.submit();
}

const file = document.getElementById("file");
if (file) {
  const save = document.getElementById("save");
  if (save) save.hidden = false;
  save?.addEventListener("click", () => {
    const a = document.createElement("a");
    a.href = URL.createObjectURL(new Blob([file.value], { type: "text/plain" }));
    a.download = file.dataset.name;
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 1000);
  });
  const copy = document.getElementById("copy");
  copy.hidden = false;
  copy.addEventListener("click", () => {
    file.select();
    // navigator.clipboard needs a secure context, which a page of the tunnel's address is not
    document.execCommand("copy");
  });
}

const POINTS = 60;
const rates = new Map();

function draw(element, history) {
  const most = Math.max(1, ...history.flatMap((point) => [point.received, point.sent]));
  for (const key of ["received", "sent"]) {
    const path = element.querySelector("path." + key);
    if (!path) continue;
    const line = history.map((point, index) => {
      const x = POINTS - history.length + index;
      return (index ? "L" : "M") + x + " " + (19 - 18 * point[key] / most).toFixed(1);
    });
    path.setAttribute("d", history.some((point) => point[key]) ? line.join("") : "");
  }
}

function set(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function show(element, row) {
  const find = (name) => element.querySelector("[data-value=" + name + "]");
  const state = find("state");
  if (state && state.dataset.state !== row.state) {
    state.dataset.state = row.state;
    set(state, row.label);
    // for those who do not see it
    const name = element.querySelector("h1, th a");
    set(document.getElementById("news"), name.textContent + ": " + row.label);
  }
  set(find("handshake"), row.handshake);
  set(find("endpoint"), row.endpoint);
  for (const key of ["received", "sent"]) {
    const cell = find(key);
    if (!cell) continue;
    cell.dataset.bytes = row[key];
    set(cell, row[key + "_text"]);
  }
}

if (document.body.dataset.live !== undefined) {
  const elements = new Map();
  for (const element of document.querySelectorAll("[data-peer]")) {
    elements.set(element.dataset.peer, element);
    const bytes = (key) => Number(element.querySelector("[data-value=" + key + "]").dataset.bytes);
    rates.set(element.dataset.peer, { received: bytes("received"), sent: bytes("sent"), at: 0, history: [] });
  }
  const events = new EventSource("/events" + document.body.dataset.live);
  events.addEventListener("peers", (event) => {
    const { at, rows } = JSON.parse(event.data);
    const changed = new Map(rows.map((row) => [row.id, row]));
    for (const [id, element] of elements) {
      const known = rates.get(id);
      const row = changed.get(id);
      if (row) show(element, row);
      const seconds = at - known.at;
      const next = row || known;
      if (known.at && seconds > 0) {
        const rate = (key) => Math.max(0, next[key] - known[key]) / seconds;
        known.history.push({ received: rate("received"), sent: rate("sent") });
        if (known.history.length > POINTS) known.history.shift();
        if (row || known.history.some((point) => point.received || point.sent)) draw(element, known.history);
      }
      known.received = next.received;
      known.sent = next.sent;
      known.at = at;
    }
  });
  // the session has ended
  events.addEventListener("end", () => { events.close(); location.reload(); });
}
