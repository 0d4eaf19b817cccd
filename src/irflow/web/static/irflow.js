// irflow's page, live: clocks that count down, and news of the journal. Without it every page works all the same.
(() => {
  "use strict";
  const body = document.body;
  let skew = Number(body.dataset.now) - Date.now(); // deadlines are the server's, and so is the time
  let loading = false;

  // Seconds as the server writes them: adapters/templates/pages.py, _left.
  const left = (seconds) => {
    const two = (number) => String(number).padStart(2, "0");
    const whole = Math.floor(Math.abs(seconds));
    const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
    const text = days ? `${days} d ${two(hours)} h` : hours ? `${hours} h ${two(minutes)} min` : `${minutes} min ${two(whole % 60)} s`;
    return `${text} ${seconds >= 0 ? "left" : "late"}`;
  };

  const tick = () => {
    const now = Date.now() + skew;
    for (const one of document.querySelectorAll("[data-deadline]")) {
      const deadline = Number(one.dataset.deadline);
      const used = ((now - Number(one.dataset.start)) / (deadline - Number(one.dataset.start))) * 100;
      one.classList.toggle("late", now > deadline);
      one.classList.toggle("soon", now <= deadline && used >= 80);
      if (one.tagName === "PROGRESS") one.value = Math.min(100, Math.max(0, used));
      else one.textContent = left((deadline - now) / 1000);
    }
  };
  tick();
  setInterval(tick, 1000);

  const waiting = (root) => Number(root.querySelector("[data-waiting]")?.dataset.waiting ?? 0);
  const say = (text) => { document.getElementById("news").textContent = text; };

  // What the reader has opened and where the keyboard is stays as it is.
  const replace = (fresh) => {
    const old = document.getElementById("main");
    const made = fresh.getElementById("main");
    for (const one of old.querySelectorAll("details[id]")) {
      const same = made.querySelector(`#${CSS.escape(one.id)}`);
      if (same) same.open = one.open;
    }
    const focused = document.activeElement;
    const place = old.contains(focused) && focused !== old ? focused.getAttribute("href") ?? focused.closest("[id]")?.id : null;
    const before = waiting(old);
    old.replaceChildren(...made.childNodes);
    old.dataset.seq = made.dataset.seq;
    document.getElementById("as-of").textContent = fresh.getElementById("as-of").textContent;
    document.title = fresh.title;
    if (place) [...old.querySelectorAll("a, summary, button")].find((one) => one.getAttribute("href") === place || one.closest("[id]")?.id === place)?.focus({ preventScroll: true });
    const after = waiting(old);
    if (after > before) say(`${after} decision${after === 1 ? "" : "s"} wait${after === 1 ? "s" : ""} for you`);
    tick();
  };

  // A form that is being filled in is never touched: its reader is told that it is out of date.
  const compare = (fresh) => {
    const mine = document.getElementById("moved");
    const theirs = fresh.getElementById("moved");
    if (!theirs || theirs.dataset.mark !== mine.dataset.mark) {
      mine.hidden = false;
      say("This has changed since you opened it. Look again before you answer.");
    }
  };

  const load = async () => {
    if (loading) return;
    loading = true;
    try {
      const reply = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" } });
      if (reply.redirected) { location.reload(); return; } // to the login
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      if (document.getElementById("moved")) compare(fresh);
      else if (reply.ok && fresh.getElementById("main")) {
        skew = Number(fresh.body.dataset.now) - Date.now();
        replace(fresh);
      }
    } catch { /* no network: the next news, or the next minute, tries again */ } finally { loading = false; }
  };

  const path = body.dataset.events;
  if (!path) return;
  const live = document.getElementById("live");
  const listen = () => {
    const source = new EventSource(path);
    source.addEventListener("open", () => { live.textContent = ", live"; });
    source.addEventListener("changed", (event) => {
      if (event.data !== document.getElementById("main").dataset.seq) load();
    });
    source.addEventListener("ended", () => { source.close(); location.reload(); });
    source.addEventListener("error", () => {
      live.textContent = ", not live: trying again";
      if (source.readyState === EventSource.CLOSED) { load(); setTimeout(listen, 10000); } // refused: too many listen
    });
  };
  listen();
  if (!document.getElementById("moved")) setInterval(load, 60000); // times that no event changes
})();
