"use strict";
// Shows the questions that contain the words, are of the category and differ as asked.
(() => {
  const cases = [...document.querySelectorAll(".case")];
  const controls = document.getElementById("controls");
  if (!cases.length || !controls) return;
  const words = document.getElementById("words");
  const category = document.getElementById("category");
  const which = document.getElementById("which");
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const texts = new Map(); // lower-case text of a case, made when it is first searched

  const textOf = (item) => {
    if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
    return texts.get(item);
  };
  const fits = (item) => {
    const { category: its, differs, favours } = item.dataset;
    if (category.value !== "" && its !== category.value) return false;
    if (which.value === "differ" && differs !== "yes") return false;
    if ((which.value === "tuned" || which.value === "base") && favours !== which.value) return false;
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

  controls.hidden = false;
  words.addEventListener("input", update);
  category.addEventListener("change", update);
  which.addEventListener("change", update);
  update();
})();
