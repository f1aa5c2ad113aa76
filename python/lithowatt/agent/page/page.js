// Shows what the agent sends each second. Names come from containers and functions of anybody:
// they become text and nothing else (textContent).
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const LATE_MS = 3000; // without an event
  let source = null;
  let lastEvent = 0; // when one came, ms; 0 before the first
  let away = 0; // since when nothing came, ms; 0 while all is well
  let returned = ""; // what is said after a time away
  let paused = false;
  let stale = null; // why the agent has no new sample
  let staleSince = 0;
  let ended = false;

  // Three digits are more than any band here carries.
  const digits = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 100) return Math.round(value).toLocaleString("en");
    if (size < 0.001) return value.toExponential(1);
    return value.toPrecision(3);
  };
  const ago = (seconds) => {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    return `${Math.floor(seconds / 3600)} h`;
  };
  const says = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  // A value with its band in an element: "12.3 (11.9 to 12.7)".
  const puts = (element, three, reason, scale = 1) => {
    const absent = !three || three[0] === null;
    element.classList.toggle("absent", absent);
    if (absent) {
      says(element, `not measured: ${reason || "no reason was given"}`);
      return;
    }
    const [value, low, high] = three.map((one) => (one === null ? null : one * scale));
    const band = low === null ? "no band" : `(${digits(low)} to ${digits(high)})`;
    const text = `${digits(value)} `;
    if (element.childNodes.length !== 2 || element.lastChild.className !== "band") {
      element.textContent = text;
      const span = document.createElement("span");
      span.className = "band";
      element.append(span);
    } else if (element.firstChild.data !== text) {
      element.firstChild.data = text;
    }
    says(element.lastChild, band);
  };
  // Rows by their keys: a row that stays is changed in place, so that focus, selection and a screen
  // reader's position stay, too. A cell is a text, or a function that fills it.
  const fill = (id, rows, empty) => {
    const body = at(id).tBodies[0];
    const wide = at(id).tHead.rows[0].cells.length;
    const old = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
    const shown = rows.length ? rows : [{ key: "-none", cells: [empty] }];
    shown.forEach(({ key, cells, inside }, index) => {
      let row = old.get(key);
      old.delete(key);
      if (!row) {
        row = document.createElement("tr");
        row.dataset.key = key;
        cells.forEach((_, column) => {
          const cell = document.createElement(column === 0 && rows.length ? "th" : "td");
          if (column === 0 && rows.length) cell.scope = "row";
          if (!rows.length) cell.colSpan = wide;
          else cell.className = at(id).tHead.rows[0].cells[column].className;
          row.append(cell);
        });
      }
      row.className = inside ? "inside" : "";
      cells.forEach((what, column) => {
        const cell = row.cells[column];
        if (typeof what === "function") what(cell);
        else says(cell, what);
      });
      if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] || null);
    });
    old.forEach((row) => row.remove());
  };
  const how = (text) => (cell) => {
    cell.classList.add("how");
    says(cell, text);
  };
  const keyed = (name, text) => (cell) => {
    cell.className = `key-${name}`;
    says(cell, text);
  };

  const HOLDS = {
    package: "part of the machine",
    dram: "part of the machine",
    core: "inside the package",
    uncore: "inside the package",
    psys: "the platform, with the packages",
    gpu: "beside the machine, in none of its parts",
  };

  function machine(state) {
    const watts = state.machine;
    const big = at("machine");
    if (!watts) {
      says(big, "–");
      says(at("machine-note"), `not measured: ${state.reason || (state.sample && state.sample.stale)}`);
    } else {
      puts(big, watts, null);
      big.firstChild.data = `${digits(watts[0])} W `;
      const span = digits(state.seconds);
      says(at("machine-note"), `measured by ${state.method}, mean of the last ${span} s, 95 % band`);
    }
    const parts = [];
    if (watts) {
      parts.push({
        key: "idle",
        cells: [
          keyed("idle", "idle"),
          (cell) => puts(cell, state.idle, "idle power is unknown"),
          how(`idle power is ${state.idle_source || "unknown"}`),
        ],
      });
      parts.push({
        key: "in",
        cells: [
          keyed("in", "in containers, above idle"),
          (cell) => puts(cell, state.attributed),
          how("attributed by CPU time"),
        ],
      });
      if (state.ended[0] > 0) {
        parts.push({
          key: "ended",
          cells: [
            keyed("in", "in containers that ended"),
            (cell) => puts(cell, state.ended),
            how("attributed by CPU time"),
          ],
        });
      }
      parts.push({
        key: "rest",
        cells: [
          keyed("rest", "unattributed: in no container"),
          (cell) => puts(cell, state.unattributed),
          how("what is left above idle"),
        ],
      });
    }
    fill("parts", parts, "not measured yet");
    const whole = watts && watts[0] > 0 ? watts[0] : 0;
    const width = (id, part) => {
      at(id).style.width = whole ? `${(100 * Math.max(0, part)) / whole}%` : "0";
    };
    width("bar-idle", watts ? state.idle[0] : 0);
    width("bar-in", watts ? state.attributed[0] + state.ended[0] : 0);
    width("bar-rest", watts ? state.unattributed[0] : 0);
    const zones = (state.zones || []).map((zone) => ({
      key: `${zone.method}:${zone.name}`,
      cells: [
        `${zone.name} (${zone.method})`,
        (cell) => puts(cell, zone.watts, zone.reason),
        how(`${HOLDS[zone.domain] || zone.domain}; ${zone.watts ? "measured" : "not measured"}`),
      ],
    }));
    fill("zones", zones, "no counter was read");
  }

  function containers(state) {
    const rows = (state.containers || []).map((one) => ({
      key: one.id,
      inside: !one.counted,
      cells: [
        one.name,
        (cell) => puts(cell, one.watts),
        digits(one.cpus),
        digits(one.total),
      ],
    }));
    const none = state.agent.containers
      ? "no containers, no pods"
      : "not followed: the agent runs with --no-containers";
    fill("containers", rows, none);
    const notes = [];
    if (state.more) notes.push(`${state.more} more that used less are not shown.`);
    if (rows.some((row) => row.inside)) {
      notes.push("A container that is set in is part of its pod.");
    }
    says(at("containers-note"), notes.join(" "));
  }

  const user = (one) => `${one.function} (user ${one.uid})`;

  function calls(state) {
    const given = state.calls;
    const note = given.reason
      ? `None can be handed in: ${given.reason}`
      : given.functions.length
        ? ""
        : "None yet. Workers hand their calls in where LITHOWATT_CALLS=on is set.";
    says(at("functions-note"), note);
    const functions = given.functions.map((one) => ({
      key: `${one.uid}:${one.definition}:${one.function}`,
      cells: [
        user(one),
        one.measured === one.calls ? String(one.calls) : `${one.calls} (${one.measured} with energy)`,
        (cell) => puts(cell, one.joules, "no call had an energy", 1 / one.measured),
        how([one.quality, one.definition].filter(Boolean).join(", ") || "unknown"),
      ],
    }));
    fill("functions", functions, "no calls were handed in");
    const last = given.calls.map((one, index) => ({
      key: String(index),
      cells: [
        user(one),
        `${ago(one.age_s)} ago`,
        one.seconds === null ? "unknown" : digits(one.seconds),
        (cell) => puts(cell, one.joules, one.reason),
        how([one.quality, one.method, one.definition].filter(Boolean).join(", ") || "unknown"),
      ],
    }));
    fill("calls", last, "no calls were handed in");
  }

  function show(state) {
    says(at("node"), state.agent.node ? `on ${state.agent.node}` : "");
    machine(state);
    containers(state);
    calls(state);
    const refused = state.calls.refused;
    says(
      at("foot"),
      `lithowatt ${state.agent.version}` +
        (refused ? `; ${refused} messages that were no calls were dropped` : ""),
    );
  }

  // What is said aloud changes with the state alone; the seconds beside it are not said.
  function tell() {
    const now = Date.now();
    let text = "Live.";
    let since = "";
    let bad = true;
    if (ended) {
      text = "The agent was stopped; trying again.";
      since = `stale since ${ago((now - away) / 1000)}`;
    } else if (!lastEvent) {
      text = "Connecting.";
      bad = false;
    } else if (away) {
      text = "The agent is away; trying again.";
      since = `stale since ${ago((now - away) / 1000)}`;
    } else if (stale) {
      text = `No new sample: ${stale}`;
      since = `stale since ${ago((now - staleSince) / 1000)}`;
    } else {
      bad = false;
      if (paused) text = "Paused: the numbers stay as they were.";
      else if (returned) text = returned;
    }
    document.body.classList.toggle("stale", bad);
    says(at("state"), text);
    says(at("since"), since);
  }

  function connect() {
    if (source) source.close();
    source = new EventSource("events");
    source.onmessage = (event) => {
      const now = Date.now();
      const state = JSON.parse(event.data);
      if (away) returned = `Live again: the agent was away for ${ago((now - away) / 1000)}.`;
      lastEvent = now;
      away = 0;
      ended = false;
      const before = stale;
      stale = state.sample.stale;
      if (stale && !before) staleSince = now;
      if (!paused) show(state);
      tell();
    };
    source.addEventListener("ended", () => {
      ended = true;
      away = away || Date.now();
      tell();
    });
    source.onerror = () => {
      if (lastEvent) away = away || Date.now();
      tell();
      // After an answer that is none the browser gives up; this page does not.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    };
  }

  at("pause").addEventListener("click", () => {
    paused = !paused;
    at("pause").setAttribute("aria-pressed", String(paused));
    tell();
  });
  setInterval(() => {
    if (lastEvent && !away && Date.now() - lastEvent > LATE_MS) away = lastEvent;
    tell();
  }, 1000);
  connect();
})();
