// The page of one scene: unpacks its data, fills the list of questions, lights regions in every view.
"use strict";

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function pointsOf(scene) {
  const xyz = [], rgb = [], label = [], spacing = [];
  const paint = (hue) => [1, 3, 5].map((at) => parseInt(hue.slice(at, at + 2), 16));
  if (!scene.cloud)
    scene.regions.forEach((region, index) => {
      for (const point of region.points) {
        xyz.push(...point); rgb.push(...paint(region.hue)); label.push(index); spacing.push(22);
      }
    });
  else {
    const { step, columns, scale, inverse, labels, colours } = scene.cloud;
    const [fx, fy, cx, cy] = scene.camera, m = scene.matrix;
    const photo = colours && (await pixelsOf(colours));
    // Each cell is stored as what it differs by from left + above − above left.
    const summed = (changes) => {
      const cells = new Int32Array(changes.length);
      changes.forEach((change, i) => {
        const left = i % columns ? cells[i - 1] : 0, above = i < columns ? 0 : cells[i - columns];
        cells[i] = change + left + above - (i % columns && i >= columns ? cells[i - columns - 1] : 0);
      });
      return cells;
    };
    const which = summed(labels);
    const z = Float64Array.from(summed(inverse), (steps) => (steps ? scale / steps : 0));
    const rows = z.length / columns;
    // Between neighbours on one surface a point is put in the middle: four times as many, without more data.
    for (let r = 0; r < 2 * rows - 1; r++)
      for (let c = 0; c < 2 * columns - 1; c++) {
        const at = [r >> 1, (r + 1) >> 1].flatMap((row) => [c >> 1, (c + 1) >> 1].map((column) => row * columns + column));
        const deep = at.map((i) => z[i]), near = Math.min(...deep), far = Math.max(...deep);
        if (!near || far > 1.05 * near || which[at[0]] !== which[at[3]]) continue;
        const middle = deep.reduce((sum, value) => sum + value, 0) / 4;
        const x = (((c / 2) * step + (step >> 1) - cx) * middle) / fx, y = (((r / 2) * step + (step >> 1) - cy) * middle) / fy;
        for (const row of [0, 4, 8]) xyz.push(m[row] * x + m[row + 1] * y + m[row + 2] * middle + m[row + 3] * 1000);
        const owner = which[at[0]], pixel = 4 * (r * 2 * columns + c);
        if (photo) rgb.push(photo[pixel], photo[pixel + 1], photo[pixel + 2]);
        else rgb.push(...(owner ? paint(scene.regions[owner - 1].hue) : [150, 155, 160]));
        label.push(owner - 1);
        spacing.push((1.1 * step * middle) / fx + 0.5 * (far - near));
      }
  }
  return { xyz, rgb, label, spacing };
}

async function pixelsOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height).data;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Captions stand in the question as they are; each is wrapped, so that the eye finds what lights up.
function marked(text, captions) {
  const holder = element("span");
  let rest = text;
  while (rest) {
    const hits = captions
      .map((caption, which) => ({ which, caption, at: caption ? rest.toLowerCase().indexOf(caption.toLowerCase()) : -1 }))
      .filter((hit) => hit.at >= 0)
      .sort((p, q) => p.at - q.at || q.caption.length - p.caption.length);
    if (!hits.length) break;
    const { at, caption, which } = hits[0];
    holder.append(rest.slice(0, at), element("mark", which ? "b" : "a", rest.slice(at, at + caption.length)));
    rest = rest.slice(at + caption.length);
  }
  holder.append(rest);
  return holder;
}

function spoken(metres, unit) {
  if (metres === 0) return "under 1 cm";
  const inches = metres / 0.0254, short = (value) => String(Number(value.toPrecision(3)));
  if (unit === "ft_in") return `${Math.floor(inches / 12 + 1e-9)} ft ${short(inches % 12)} in`;
  return `${short({ m: metres, cm: metres * 100, in: inches, ft: inches / 12 }[unit])} ${unit}`;
}

function detailOf([, , type, , , value, stated, unit, label]) {
  const parts = [type.replaceAll("_", " ")];
  if (value !== null) {
    parts.push(`true ${value.toFixed(value < 1 ? 3 : 2)} m`);
    if (stated !== null && unit !== null) parts.push(`said ${spoken(stated, unit)}`);
    if (stated !== null && value >= 0.005) {
      const off = Math.round((100 * (stated - value)) / value);
      parts.push(`${off > 0 ? "+" : off < 0 ? "−" : ""}${Math.abs(off)} %`);
    }
  }
  if (label !== null) parts.push(`label ${label}`);
  return parts.join(" · ");
}

async function start() {
  const scene = await unpacked(document.getElementById("data").textContent);
  const places = new Map(scene.regions.map((region, index) => [region.id, index]));
  scene.points = await pointsOf(scene);
  const canvas = document.querySelector(".view3d canvas");
  const view = new View3D(canvas, scene);
  const list = document.getElementById("questions");
  const types = document.getElementById("type"), words = document.getElementById("words"), shown = document.getElementById("shown");

  function light(a, b) {
    const known = [a, b].map((id) => (places.has(id) ? places.get(id) : null));
    for (const node of document.querySelectorAll("[data-region]")) {
      node.classList.toggle("lit-a", known[0] !== null && node.dataset.region === String(a));
      node.classList.toggle("lit-b", known[1] !== null && node.dataset.region === String(b));
    }
    document.body.classList.toggle("some-lit", known[0] !== null);
    view.light(...known);
  }

  function choose(button) {
    const again = button.getAttribute("aria-pressed") === "true";
    for (const other of list.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    if (again) return light(null, null);
    button.setAttribute("aria-pressed", "true");
    const row = scene.qa[Number(button.dataset.question)];
    light(row[3], row[4]);
  }

  const items = scene.qa.map((row, index) => {
    const button = element("button");
    button.type = "button";
    button.dataset.question = index;
    button.setAttribute("aria-pressed", "false");
    const captions = [row[3], row[4]].map((id) => (places.has(id) ? scene.regions[places.get(id)].caption : ""));
    button.append(marked(row[0], captions), element("span", "answer", row[1]), element("span", "detail", detailOf(row)));
    button.addEventListener("click", () => choose(button));
    const item = element("li");
    item.append(button);
    list.append(item);
    return item;
  });
  for (const type of [...new Set(scene.qa.map((row) => row[2]))].sort()) types.append(new Option(type.replaceAll("_", " "), type));

  function sift() {
    const wanted = words.value.trim().toLowerCase();
    let number = 0;
    items.forEach((item, index) => {
      const [question, answer, type] = scene.qa[index];
      item.hidden = (types.value && type !== types.value) || !`${question} ${answer}`.toLowerCase().includes(wanted);
      number += !item.hidden;
    });
    shown.textContent = `${number} of ${items.length}`;
  }
  types.addEventListener("change", sift);
  words.addEventListener("input", sift);
  sift();

  list.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = items.filter((item) => !item.hidden).map((item) => item.firstChild);
    const next = way && buttons[buttons.indexOf(document.activeElement) + way];
    if (!next) return;
    event.preventDefault();
    next.focus();
    if (next.getAttribute("aria-pressed") !== "true") choose(next);
  });
  for (const button of document.querySelectorAll("tr[data-region] button"))
    button.addEventListener("click", () => {
      for (const other of list.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
      const id = Number(button.closest("tr").dataset.region);
      const lit = button.closest("tr").classList.contains("lit-a");
      light(lit ? null : id, null);
    });
  for (const box of document.querySelectorAll("[data-toggle]"))
    box.addEventListener("change", () => document.querySelector(".stage").classList.toggle(`no-${box.dataset.toggle}`, !box.checked));
  document.getElementById("boxes3d").addEventListener("change", (event) => { view.showBoxes = event.target.checked; view.draw(); });
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => view[button.dataset.view]());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const other of list.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    light(null, null);
  });
  const asked = /^#q(\d+)$/.exec(location.hash);
  const first = asked && items[Number(asked[1]) - 1];
  if (first) { choose(first.firstChild); list.scrollTop = first.offsetTop - list.offsetTop - 60; }
  document.body.dataset.ready = "yes";
}

start();
