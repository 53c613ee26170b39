// The live parts of the page. Everything here only saves a reload: without it
// every page can be read and every form sent.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ----- Ages grow while one looks at them.
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const age = (seconds) => {
    const past = seconds >= 0;
    let rest = Math.floor(Math.abs(seconds));
    const words = [];
    for (const [size, name] of UNITS) {
      if (rest >= size && words.length < 2) {
        words.push(`${Math.floor(rest / size)} ${name}`);
        rest %= size;
        if (size === 1 || (size === 60 && seconds >= 600)) break;
      } else if (words.length) break;
    }
    const text = words.join(" ") || "0 s";
    return past ? `${text} ago` : `in ${text}`;
  };
  // Our clock against the server's, so that a wrong clock here shows no wrong age.
  const skew = Date.now() - Date.parse(document.body.dataset.now || new Date().toISOString());
  const grow = () => {
    for (const time of $$("time[data-age]")) {
      const since = (Date.now() - skew - Date.parse(time.dateTime)) / 1000;
      time.textContent = age(since);
    }
  };
  setInterval(grow, 1000);

  // ----- Empty fields of a search stay out of its address.
  for (const form of $$("form[method=get]")) {
    form.addEventListener("formdata", (event) => {
      for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
    });
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const find = $(".find input");
      if (find) { event.preventDefault(); find.focus(); find.select(); }
    }
  });

  // ----- Parts that are read again now and then.
  const refresh = async (url, parts) => {
    const answer = await fetch(url, { credentials: "same-origin", redirect: "error" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of parts) {
      const old = document.getElementById(id);
      const part = fresh.getElementById(id);
      // What somebody is in the middle of is not taken away.
      if (!old || !part || old.contains(document.activeElement)) continue;
      if ($$("input", old).some((input) => input.checked !== input.defaultChecked || input.value !== input.defaultValue)) continue;
      for (const open of $$("details[open][id]", old)) {
        const same = part.querySelector(`#${CSS.escape(open.id)}`);
        if (same) same.open = true;
      }
      old.replaceWith(document.adoptNode(part));
    }
  };
  const again = document.body.dataset.refresh;
  if (again) {
    const parts = again.split(" ");
    // A long time changes slowly, and is more to read.
    const every = /[?&]minutes=(360|1440)\b/.test(location.search) ? 30000 : 5000;
    setInterval(() => {
      if (!document.hidden) refresh(location.href, parts).catch(() => {});
    }, every);
  }

  // ----- The live tail.
  const tail = $("#tail");
  if (!tail || !window.EventSource) return;
  const rows = $("#rows");
  const pattern = $("#row-pattern");
  const button = $("button", tail);
  const word = $(".word", tail);
  const ROWS_MAX = 200;
  let source = null;
  const say = (text, on) => { word.textContent = text; tail.classList.toggle("on", on); };

  // What of a text is obeyed instead of shown is escaped, by the server's list.
  const OBEYED = new RegExp(`[${pattern.dataset.obeyed}]`, "gu");
  const KEPT = { "\n": "\n", "\t": "\t", "\r": "\\r" };
  const visible = (text) =>
    text.replace(OBEYED, (c) => KEPT[c] || `\\u{${c.codePointAt(0).toString(16)}}`);
  const SHORT = 128;
  const LINKED = 1024;
  const short = (text) =>
    text.length > SHORT ? `${visible(text.slice(0, SHORT).replace(/[\ud800-\udbff]$/, ""))}…` : visible(text);
  const put = (row, name, text) => {
    const slot = $(`[data-slot=${name}]`, row);
    if (!slot) return;
    const whole = slot.closest("[data-with]") || slot;
    if (text === null || text === undefined || text === "") { whole.remove(); return; }
    slot.textContent = short(text);
  };
  const state = (kind, sign, text) => {
    const mark = document.createElement("span");
    mark.className = `state ${kind}`;
    const drawn = document.createElement("span");
    drawn.setAttribute("aria-hidden", "true");
    drawn.textContent = sign;
    mark.append(drawn, ` ${text}`);
    return mark;
  };
  const OUTCOMES = { succeeded: ["good", "✓"], failed: ["bad", "✕"], other: ["", "·"] };
  const STATUSES = { succeeded: ["good", "✓"], dead: ["bad", "✕"], running: ["busy", "▸"], pending: ["warn", "◷"] };
  const show = (event) => {
    if (document.getElementById(`e-${event.id}`)) return;
    const row = pattern.content.firstElementChild.cloneNode(true);
    row.id = `e-${event.id}`;
    row.classList.add("fresh");
    const link = $("a.type", row);
    link.href = `/events/${encodeURIComponent(event.id)}`;
    link.textContent = short(event.type);
    const time = $("time", row);
    time.dateTime = event.received_at;
    time.title = event.received_at;
    put(row, "source", event.source);
    for (const [name, path] of [["media", "media"], ["job", "job"]]) {
      const id = event[`${name}_id`];
      put(row, name, id);
      const anchor = $(`a[data-slot=${name}]`, row);
      if (!anchor) continue;
      if (id.length <= LINKED) anchor.href = `/${path}/${encodeURIComponent(id)}`;
      anchor.title = anchor.textContent;
    }
    const notes = event.notes.length;
    put(row, "notes", notes ? `${notes} ${notes === 1 ? "note" : "notes"}` : null);
    if (!event.media_id && !event.job_id) $(".ids", row)?.remove();
    const outcome = $("[data-outcome]", row);
    outcome.replaceWith(state(...(OUTCOMES[event.outcome] || OUTCOMES.other), event.outcome));
    const states = $(".states", row);
    for (const delivery of event.deliveries) {
      const [kind, sign] = STATUSES[delivery.status] || ["", "·"];
      const mark = state(kind, sign, delivery.handler);
      mark.title = `${delivery.status}, attempts: ${delivery.attempts}`;
      states.append(mark);
    }
    place(row);
    settle();
  };
  // Ids grow with time, and the newest is first.
  const place = (row) => {
    const older = $$(":scope > tr", rows).find((shown) => shown.id < row.id);
    rows.insertBefore(row, older || null);
  };
  const settle = () => {
    const some = rows.children.length > 0;
    $("#nothing")?.toggleAttribute("hidden", some);
    $("#table")?.toggleAttribute("hidden", !some);
    while (rows.children.length > ROWS_MAX) rows.lastElementChild.remove();
    grow();
  };
  // What came while nobody listened: before the page was there, while the tail
  // was paused, or while the service was away.
  const catchUp = async (listening) => {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (source !== listening) return;
    for (const row of $$("#rows > tr", fresh)) {
      if (document.getElementById(row.id)) continue;
      place(document.adoptNode(row));
    }
    settle();
  };
  const start = () => {
    const listening = new EventSource(tail.dataset.url);
    source = listening;
    source.addEventListener("open", () => {
      say("Live", true);
      catchUp(listening).catch(() => {});
    });
    source.addEventListener("event", (message) => show(JSON.parse(message.data)));
    source.addEventListener("skipped", (message) => {
      say(`Live; ${JSON.parse(message.data).events} events left out, they came too fast`, true);
    });
    source.addEventListener("error", () => {
      say(source && source.readyState === EventSource.CLOSED ? "The live tail ended" : "Connecting …", false);
    });
    button.textContent = "Pause";
    button.setAttribute("aria-pressed", "false");
    say("Connecting …", false);
  };
  const stop = () => {
    source.close();
    source = null;
    button.textContent = "Go on";
    button.setAttribute("aria-pressed", "true");
    say("Paused", false);
  };
  button.addEventListener("click", () => (source ? stop() : start()));
  tail.hidden = false;
  start();

  // What became of the rows that are not finished yet.
  setInterval(() => {
    if (!source || document.hidden || !$(".state.busy, .state.warn", rows)) return;
    fetch(location.href, { credentials: "same-origin", redirect: "error" })
      .then((answer) => (answer.ok ? answer.text() : null))
      .then((text) => {
        if (!text) return;
        const fresh = new DOMParser().parseFromString(text, "text/html");
        for (const row of $$("#rows > tr", fresh)) {
          const old = document.getElementById(row.id);
          const states = $(".states", row);
          if (old && states) $(".states", old)?.replaceWith(document.adoptNode(states));
        }
      })
      .catch(() => {});
  }, 2000);
})();
