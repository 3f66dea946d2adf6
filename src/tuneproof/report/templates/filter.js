"use strict";
// Shows the questions that contain the words, are of the benchmark and category and differ as asked,
// with the answers of the chosen opponent and adapter.
(() => {
  const cases = [...document.querySelectorAll(".case")];
  const controls = document.getElementById("controls");
  if (!cases.length || !controls) return;
  const words = document.getElementById("words");
  const category = document.getElementById("category");
  const which = document.getElementById("which");
  const benchmark = document.getElementById("benchmark"); // these three: only where there are several
  const opponent = document.getElementById("opponent");
  const adapter = document.getElementById("adapter");
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const texts = new Map(); // lower-case text of a case, made when it is first searched
  const views = new Map(); // the element of a case that says whom it favours in the chosen view

  const textOf = (item) => {
    if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
    return texts.get(item);
  };
  const look = (item) => {
    const all = [...item.querySelectorAll(".view")];
    const has = opponent && all.some((view) => view.dataset.against === opponent.value);
    const against = has ? opponent.value : "base"; // whom every question was answered by
    const number = adapter ? adapter.value : "0";
    const fits = ({ dataset }) => dataset.against === against && dataset.adapter === number;
    for (const view of all) view.hidden = !fits(view);
    for (const reply of item.querySelectorAll(".reply")) reply.hidden = !fits(reply);
    for (const side of item.querySelectorAll(".side")) {
      const { arm } = side.dataset;
      side.hidden = arm === "tuned" ? side.dataset.adapter !== number : arm !== against;
    }
    views.set(item, all.find(fits));
  };
  const fits = (item) => {
    if (category.value !== "" && item.dataset.category !== category.value) return false;
    if (benchmark && benchmark.value !== "" && item.dataset.benchmark !== benchmark.value) return false;
    const { differs, favours } = views.get(item)?.dataset ?? {};
    if (which.value === "differ" && differs !== "yes") return false;
    if ((which.value === "tuned" || which.value === "opponent") && favours !== which.value) return false;
    const wanted = words.value.trim().toLowerCase();
    return wanted === "" || textOf(item).includes(wanted);
  };
  const update = () => {
    let count = 0;
    for (const item of cases) {
      item.hidden = !fits(item);
      if (!item.hidden) count += 1;
    }
    shown.textContent = `${count} of ${cases.length} questions`;
    none.hidden = count > 0;
  };
  const choose = () => {
    cases.forEach(look);
    update();
  };

  controls.hidden = false;
  words.addEventListener("input", update);
  for (const filter of [category, which, benchmark]) filter?.addEventListener("change", update);
  for (const choice of [opponent, adapter]) choice?.addEventListener("change", choose);
  choose();
})();
