// What scripts add to the form: the picture of the chosen input, and a drawing that fills in the numbers.
(() => {
  "use strict";
  const form = document.getElementById("ask");
  const dataset = document.getElementById("dataset");
  const index = document.getElementById("index");
  const preview = document.getElementById("preview");

  function showPicked() {
    const option = dataset.selectedOptions[0];
    const wanted = index.value.trim();
    const there = /^\d{1,9}$/.test(wanted) && Number(wanted) < Number(option.dataset.count);
    preview.hidden = !("pictured" in option.dataset && there);
    if (!preview.hidden) preview.src = `/datasets/${option.value}/${wanted}.png`;
    document.querySelector("[data-browse]").href = `/datasets/${option.value}`;
  }
  if (dataset) for (const each of [dataset, index]) each.addEventListener("input", showPicked);

  const network = document.getElementById("network");
  const numbers = document.getElementById("numbers");
  const place = document.getElementById("drawing");
  if (!network) return;

  // One grey value in [0, 1] for each pixel; the canvas has as many pixels as the network's input.
  const canvas = document.createElement("canvas");
  canvas.dataset.drawing = "";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Drawing of the input; the numbers beside say the same");
  const clear = Object.assign(document.createElement("button"), { type: "button", textContent: "Clear" });
  const words = Object.assign(document.createElement("span"), { className: "hint", textContent: "Draw with the pointer; the numbers follow." });
  place.append(canvas, words, clear);
  let width = 0, height = 0, values = [];

  function paint() {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    values.forEach((value, i) => picture.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    context.putImageData(picture, 0, 0);
  }
  function written() {
    const found = numbers.value.split(/[\s,;[\]()]+/).filter(Boolean).map(Number);
    return found.length === width * height && found.every(Number.isFinite) ? found : Array(width * height).fill(0);
  }
  function fit() {
    const { width: w, height: h, channels } = network.selectedOptions[0].dataset;
    place.hidden = !(w && channels === "1" && Number(w) <= 64 && Number(h) <= 64);
    if (place.hidden) return;
    canvas.width = width = Number(w);
    canvas.height = height = Number(h);
    values = written();
    paint();
  }
  function stroke(event) {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * width, y = (event.clientY - box.top) / box.height * height;
    const reach = Math.max(0.8, width / 16);
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
      const far = Math.hypot(column + 0.5 - x, row + 0.5 - y);
      const ink = Math.max(0, Math.min(1, 1.4 * (1 - far / reach)));
      values[row * width + column] = Math.max(values[row * width + column], Math.round(16 * ink) / 16);
    }
    numbers.value = values.join(" ");
    paint();
  }
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); stroke(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(event); });
  clear.addEventListener("click", () => { numbers.value = ""; fit(); });
  numbers.addEventListener("change", fit);
  network.addEventListener("input", fit);
  form.addEventListener("reset", () => setTimeout(fit));
  fit();
})();
