"use strict";
// The loss under the pointer. The values are those of the table below the curve.
(() => {
  const table = document.getElementById("curve");
  const told = document.getElementById("at");
  if (!table || !told) return;
  const points = [...table.tBodies[0].rows].map((row) => {
    const [step, train, validation] = [...row.cells].map((cell) => cell.textContent.trim());
    return { step: Number(step.replaceAll(",", "")), label: step, train, validation };
  });
  const NAMES = ["train", "validation"];

  function nearest(step, has) {
    let best = null;
    for (const point of points) {
      if (point[has] === "") continue;
      if (!best || Math.abs(point.step - step) < Math.abs(best.step - step)) best = point;
    }
    return best;
  }

  for (const chart of document.querySelectorAll("svg.loss")) {
    const [left, right, top, bottom, last, low, high] =
      ["left", "right", "top", "bottom", "last", "low", "high"].map((key) => Number(chart.dataset[key]));
    const x = (step) => left + (step / last) * (right - left);
    const y = (loss) => bottom - ((loss - low) / (high - low)) * (bottom - top);
    const cross = chart.querySelector(".cross");
    const dots = NAMES.map((name) => chart.querySelector(`.at.${name}`));
    let at = null;

    const tell = (step) => {
      // The cross stands at a step that has a loss, so that what is told is told of its place.
      at = points.reduce((best, point) =>
        Math.abs(point.step - step) < Math.abs(best.step - step) ? point : best).step;
      const said = NAMES.map((name, i) => {
        const point = nearest(at, name);
        dots[i].toggleAttribute("hidden", !point);
        if (!point) return "";
        dots[i].setAttribute("cx", x(point.step));
        dots[i].setAttribute("cy", y(Number(point[name].replaceAll(",", ""))));
        return `${name} ${point[name]} (step ${point.label})`;
      });
      cross.setAttribute("x1", x(at));
      cross.setAttribute("x2", x(at));
      chart.classList.add("told");
      told.textContent = said.filter(Boolean).join(" · ");
    };
    const leave = () => {
      at = null;
      chart.classList.remove("told");
      told.textContent = "";
    };

    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      tell(((place - left) / (right - left)) * last);
    });
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      const steps = points.map((point) => point.step);
      const next = at === null ? steps[way > 0 ? 0 : steps.length - 1]
        : way > 0 ? steps.find((step) => step > at) : steps.findLast((step) => step < at);
      if (next !== undefined) tell(next);
      event.preventDefault();
    });
  }
})();
