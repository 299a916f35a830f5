// A small viewer for coloured points, boxes and a ground grid: a depth buffer in plain canvas, so that it needs no GPU,
// no library and no server. Lengths are millimetres in a frame with x forward, y left, z up.
"use strict";

// Focal length in heights of the canvas.
const FOCAL = 1.15;
// What is drawn before a page is printed is not yet under the style sheet's rules for print.
const PAPER = { "--paper": "#fff", "--ink": "#000", "--soft": "#444", "--line": "#bbb" };

class View3D {
  constructor(canvas, scene) {
    this.canvas = canvas;
    this.scene = scene;
    this.lit = [null, null];
    this.showBoxes = true;
    const m = scene.matrix;
    this.eye = [m[3] * 1000, m[7] * 1000, m[11] * 1000];
    const corners = scene.regions.flatMap((region) => region.box);
    this.corners = corners.length ? corners : [[1000, -500, 0], [3000, 500, 0]];
    const ends = [0, 1, 2].map((axis) => this.corners.map((p) => p[axis]));
    this.middle = ends.map((values) => (Math.min(...values) + Math.max(...values)) / 2);
    this.start = { yaw: Math.PI + 0.55, pitch: 0.5, target: [...this.middle] };
    this.reset();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    for (const [event, printing] of [["beforeprint", true], ["afterprint", false]])
      addEventListener(event, () => { this.printing = printing; this.render(); });
  }

  reset() {
    Object.assign(this, this.start, { target: [...this.start.target] });
    this.fit();
    this.draw();
  }

  // As near as it may be with every box inside the inner nine tenths of the canvas.
  fit() {
    const { back, right, top } = this.axes();
    const wide = (this.canvas.clientWidth || 4) / (this.canvas.clientHeight || 3);
    this.reach = Math.max(...this.corners.map((p) => {
      const [x, y, z] = [right, top, back].map((axis) => axis.reduce((sum, c, i) => sum + c * (p[i] - this.target[i]), 0));
      return z + (FOCAL / 0.45) * Math.max(Math.abs(x) / wide, Math.abs(y));
    }), 400);
  }

  fromAbove() {
    Object.assign(this, { yaw: Math.PI, pitch: 1.5, target: [...this.middle] });
    this.fit();
    this.draw();
  }

  fromCamera() {
    const back = this.eye.map((v, i) => v - this.middle[i]);
    this.reach = Math.hypot(...back);
    this.yaw = Math.atan2(back[1], back[0]);
    this.pitch = Math.asin(back[2] / this.reach);
    this.target = [...this.middle];
    this.draw();
  }

  light(a, b) {
    this.lit = [a, b];
    this.draw();
  }

  turn(across, up) {
    this.yaw -= across;
    this.pitch = Math.max(-1.5, Math.min(1.55, this.pitch + up));
    this.draw();
  }

  zoom(factor) {
    this.reach = Math.max(150, Math.min(60000, this.reach * factor));
    this.draw();
  }

  pan(across, up) {
    const { right, top } = this.axes();
    const step = this.reach / this.canvas.clientHeight;
    this.target = this.target.map((v, i) => v - (right[i] * across - top[i] * up) * step);
    this.draw();
  }

  listen() {
    const fingers = new Map();
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
      if (fingers.size === 2) {
        const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
        const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) + 1;
        this.reach *= apart(last) / apart(event);
        this.pan(dx / 2, dy / 2);
      } else if (event.shiftKey || event.buttons === 2) this.pan(dx, dy);
      else this.turn(dx * 0.008, dy * 0.008);
      fingers.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel"])
      this.canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== this.canvas && !event.ctrlKey) return;
      event.preventDefault();
      this.zoom(Math.exp(Math.sign(event.deltaY) * 0.1));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => this.turn(0.1, 0), ArrowRight: () => this.turn(-0.1, 0),
        ArrowUp: () => this.turn(0, 0.1), ArrowDown: () => this.turn(0, -0.1),
        "+": () => this.zoom(0.9), "=": () => this.zoom(0.9), "-": () => this.zoom(1.1), 0: () => this.reset(),
      }[event.key];
      if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
    });
  }

  axes() {
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    return { back: [cp * cy, cp * sy, sp], right: [-sy, cy, 0], top: [-sp * cy, -sp * sy, cp] };
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.render(); });
  }

  render() {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(this.canvas.clientWidth * scale), height = Math.round(this.canvas.clientHeight * scale);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => (this.printing && PAPER[name]) || style.getPropertyValue(name).trim();
    const { back, right, top } = this.axes();
    const from = this.target.map((v, i) => v + back[i] * this.reach);
    const focal = height * FOCAL;
    const project = (p) => {
      const [x, y, z] = [p[0] - from[0], p[1] - from[1], p[2] - from[2]];
      const deep = -(x * back[0] + y * back[1] + z * back[2]);
      return [
        width / 2 + (focal * (x * right[0] + y * right[1] + z * right[2])) / deep,
        height / 2 - (focal * (x * top[0] + y * top[1] + z * top[2])) / deep, deep,
      ];
    };
    context.fillStyle = colour("--paper");
    context.fillRect(0, 0, width, height);
    const line = (p, q) => {
      // What lies behind the viewer is cut off, not mirrored.
      const depth = (v) => -v.reduce((sum, c, i) => sum + (c - from[i]) * back[i], 0);
      let [dp, dq] = [depth(p), depth(q)];
      if (dp < 50 && dq < 50) return;
      const cut = (s, t, ds, dt) => s.map((v, i) => v + ((t[i] - v) * (50 - ds)) / (dt - ds));
      if (dp < 50) p = cut(p, q, dp, dq);
      else if (dq < 50) q = cut(q, p, dq, dp);
      const [a, b] = [project(p), project(q)];
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
    };
    this.ground(context, line, colour("--line"), scale);
    context.drawImage(this.points(width, height, project, focal), 0, 0);
    this.boxes(context, line, project, scale, colour);
    this.frustum(context, line, scale, colour("--soft"));
  }

  ground(context, line, colour, scale) {
    if (!this.scene.level) return;
    const corners = this.scene.regions.flatMap((region) => region.box).concat([this.eye]);
    const low = [0, 1].map((axis) => Math.floor(Math.min(...corners.map((p) => p[axis])) / 500 - 1) * 500);
    const high = [0, 1].map((axis) => Math.ceil(Math.max(...corners.map((p) => p[axis])) / 500 + 1) * 500);
    for (const whole of [false, true]) {
      context.beginPath();
      for (let x = low[0]; x <= high[0]; x += 500)
        if ((x % 1000 === 0) === whole) line([x, low[1], 0], [x, high[1], 0]);
      for (let y = low[1]; y <= high[1]; y += 500)
        if ((y % 1000 === 0) === whole) line([low[0], y, 0], [high[0], y, 0]);
      context.strokeStyle = colour;
      context.lineWidth = scale * (whole ? 1.5 : 0.6);
      context.stroke();
    }
  }

  points(width, height, project, focal) {
    const { xyz, rgb, label, spacing } = this.scene.points;
    const sheet = document.createElement("canvas");
    Object.assign(sheet, { width, height });
    const context = sheet.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const nearest = new Float32Array(width * height).fill(Infinity);
    const some = this.lit[0] !== null;
    const hues = [[0, 114, 178], [213, 94, 0]];
    for (let i = 0; i < label.length; i++) {
      const [u, v, deep] = project([xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]]);
      if (deep < 100) continue;
      const size = Math.max(1, Math.min(14, Math.ceil((focal * spacing[i]) / deep)));
      const left = Math.round(u - size / 2), up = Math.round(v - size / 2);
      const [x0, x1] = [Math.max(left, 0), Math.min(left + size, width)];
      const [y0, y1] = [Math.max(up, 0), Math.min(up + size, height)];
      let [r, g, b] = [rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]];
      const which = some && label[i] >= 0 ? this.lit.indexOf(label[i]) : -1;
      if (which >= 0) {
        const hue = hues[which], shade = 0.55 + (0.6 * (r + g + b)) / 765;
        [r, g, b] = hue.map((c) => Math.min(255, c * 0.75 * shade + 55 * shade));
      } else if (some) {
        const grey = (r + g + b) / 3;
        [r, g, b] = [r, g, b].map((c) => 0.35 * c + 0.25 * grey + 82);
      }
      const value = (255 << 24) | (b << 16) | (g << 8) | r;
      for (let y = y0; y < y1; y++)
        for (let x = x0, at = y * width + x0; x < x1; x++, at++)
          if (deep < nearest[at]) { nearest[at] = deep; pixels[at] = value; }
    }
    context.putImageData(image, 0, 0);
    return sheet;
  }

  boxes(context, line, project, scale, colour) {
    const edges = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
    const some = this.lit[0] !== null;
    this.scene.regions.forEach((region, index) => {
      const which = this.lit.indexOf(index);
      if (some ? which < 0 : !this.showBoxes) return;
      context.strokeStyle = which === 0 ? colour("--a") : which === 1 ? colour("--b") : region.hue;
      context.lineWidth = scale * (which >= 0 ? 2.4 : 1.3);
      context.beginPath();
      for (const [p, q] of edges) line(region.box[p], region.box[q]);
      context.stroke();
    });
    const [a, b] = this.lit.map((index) => (index === null ? null : this.scene.regions[index]));
    if (a && b) {
      context.setLineDash([6 * scale, 4 * scale]);
      context.strokeStyle = colour("--ink");
      context.lineWidth = 1.6 * scale;
      context.beginPath();
      line(a.center, b.center);
      context.stroke();
      context.setLineDash([]);
    }
    let last = null;
    this.scene.regions.forEach((region, index) => {
      if (some ? !this.lit.includes(index) : !this.showBoxes) return;
      const head = Math.max(...region.box.map((p) => p[2]));
      let [x, y, deep] = project([region.center[0], region.center[1], head]);
      if (deep < 100) return;
      const text = some ? `${index + 1} ${region.caption}` : String(index + 1);
      if (some && last && Math.abs(last - y) < 18 * scale) y = last + (y < last ? -18 : 18) * scale;
      last = y;
      context.font = `600 ${12 * scale}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.lineWidth = 4 * scale;
      context.lineJoin = "round";
      context.strokeStyle = colour("--paper");
      context.strokeText(text, x, y - 6 * scale);
      context.fillStyle = colour("--ink");
      context.fillText(text, x, y - 6 * scale);
    });
  }

  frustum(context, line, scale, colour) {
    const { matrix: m, camera: [fx, fy, cx, cy], size: [w, h] } = this.scene;
    const corners = [[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]].map(([u, v]) => {
      const ray = [(250 * (u - cx)) / fx, (250 * (v - cy)) / fy, 250];
      return [0, 1, 2].map((row) => m[4 * row] * ray[0] + m[4 * row + 1] * ray[1] + m[4 * row + 2] * ray[2] + this.eye[row]);
    });
    context.strokeStyle = colour;
    context.lineWidth = 1.3 * scale;
    context.beginPath();
    corners.forEach((corner, i) => { line(this.eye, corner); line(corner, corners[(i + 1) % 4]); });
    if (this.scene.level) line(this.eye, [this.eye[0], this.eye[1], 0]);
    context.stroke();
  }
}
