"use strict";
const $ = id => document.getElementById(id);
const images = JSON.parse($("data").textContent);
$("data").remove();
const list = $("list"), dialog = $("dialog"), CHUNK = 60;
const WORDS = {flagged: "▲ Flagged", passed: "✓ Passed", unreadable: "✕ Unreadable"};
const STOPS = [  // of matplotlib's inferno, by which displays are drawn too
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50],
  [252, 255, 164],
];
let shown = [], open = -1;

const colours = Array.from({length: 256}, (_, value) => {
  const place = value / 32, i = Math.min(Math.floor(place), 7), part = place - i;
  return STOPS[i].map((c, k) => c + part * (STOPS[i + 1][k] - c));
});
const packed = (colour, opacity) => new Uint32Array(new Uint8ClampedArray([...colour, 255 * opacity]).buffer)[0];
const OF_MAP = Uint32Array.from(colours, colour => packed(colour, 1));
const OF_OVERLAY = Uint32Array.from(colours, (colour, value) =>
  packed(colour, Math.min(0.8, Math.max(0, (value / 256 - 0.42) / 0.25))));
const OF_OUTLINE = [packed([255, 255, 255], 1), packed([0, 0, 0], 1)];  // outside and inside
if ($("colours")) $("colours").style.background = `linear-gradient(to right, ${STOPS.map(c => `rgb(${c})`).join(",")})`;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Colours by evidence, and an outline in black and white at the threshold.
function paint(picture, overlay, map, reach) {
  const {width, height} = map, context = map.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height), seen = context.createImageData(width, height);
  const [opaque, clear] = [pixels, seen].map(({data}) => new Uint32Array(data.buffer));
  const above = new Uint8Array(width * height);
  for (let i = 0; i < above.length; i++) above[i] = pixels.data[4 * i] >= 128;
  const down = reach * width;
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) {
    const value = pixels.data[4 * i], inside = above[i];
    const beside = (x >= reach && above[i - reach] !== inside) || (x < width - reach && above[i + reach] !== inside)
      || (y >= reach && above[i - down] !== inside) || (y < height - reach && above[i + down] !== inside);
    opaque[i] = beside ? OF_OUTLINE[inside] : OF_MAP[value];
    clear[i] = beside ? OF_OUTLINE[inside] : OF_OVERLAY[value];
  }
  context.putImageData(pixels, 0, 0);
  overlay.getContext("2d").putImageData(seen, 0, 0);
}

function drawMap(stack) {  // when it comes near; what is far away takes no memory
  const {image, side, reach} = stack, large = Math.max(...image.size);
  const [overlay, map] = stack.querySelectorAll("canvas");
  for (const canvas of [overlay, map]) {
    canvas.width = Math.max(1, Math.round(side * image.size[1] / large));
    canvas.height = Math.max(1, Math.round(side * image.size[0] / large));
  }
  const source = new Image();
  source.onload = () => { if (map.width) paint(source, overlay, map, reach); };
  source.src = `data:image/png;base64,${image.map}`;
}

const near = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting}) => {
  if (isIntersecting) drawMap(target);
  else for (const canvas of target.querySelectorAll("canvas")) canvas.width = canvas.height = 0;
}), {rootMargin: "800px"});

function altText(image) {
  if (image.kind === "unreadable") return `${image.name}: unreadable`;
  const first = image.regions && image.regions[0];
  const span = (from, to) => `${from} to ${to - 1}`;
  const where = !first ? ""
    : `, the largest in rows ${span(first[0], first[2])} and columns ${span(first[1], first[3])}`;
  const count = image.n_regions === "" ? "" : `, ${image.n_regions} regions${where}`;
  return `${image.name}: ${image.kind}, score ${image.score}, p-value ${image.p}${count}`;
}

function stackOf(image, side, reach, into) {  // the image with its map above it, as large as its frame permits
  if (!image.image) {
    into.append(make("span", "missing", image.error || "no picture"));
    return null;
  }
  const stack = make("span", "stack"), [h, w] = image.size, large = Math.max(h, w);
  stack.style.width = `${100 * w / large}%`;
  stack.style.height = `${100 * h / large}%`;
  const picture = make("img");
  picture.alt = altText(image);
  picture.src = `data:image/jpeg;base64,${image.image}`;
  stack.append(picture);
  if (image.map) {
    Object.assign(stack, {image, side, reach}).append(make("canvas", "overlay"), make("canvas", "map"));
    near.observe(stack);
  }
  into.append(stack);
  return stack;
}

function wordsOf(image, into, full) {
  into.append(make("span", `verdict ${image.kind}`, WORDS[image.kind]));
  if (!full) into.append(make("span", "rank", `#${images.indexOf(image) + 1}`));
  const name = make(full ? "h2" : "p", "name", image.name);
  if (full) name.id = "dialog-name"; else name.title = image.path;
  into.append(name);
  if (full && image.path !== image.name) into.append(make("p", "muted", image.path));
  if (image.kind === "unreadable") {
    into.append(make("p", "muted", image.error));
    return;
  }
  into.append(make("p", "", `score ${image.score}, p = ${image.p}`));
  if (image.n_regions !== "") into.append(make("p", "", `${image.n_regions} region${image.n_regions == 1 ? "" : "s"}`));
  if (image.note) into.append(make("p", "muted", `Note: ${image.note}.`));
  if (full && image.regions && image.regions.length) into.append(tableOf(image));
}

function tableOf(image) {
  const table = make("table"), head = make("tr"), left = image.n_regions - image.regions.length;
  const rest = left ? ` (${left} more are not listed)` : "", size = `${image.size[1]} × ${image.size[0]} px`;
  table.append(make("caption", "", `Regions, the largest first${rest}; image of ${size} (width × height)`));
  for (const title of ["", "rows", "columns", "centre (row, column)", "area", "peak", "p"]) {
    const cell = make("th", "", title);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(head);
  image.regions.forEach(([top, left, bottom, right, row, column, area, peak, p], i) => {
    const line = make("tr");
    for (const text of [i + 1, `${top}–${bottom - 1}`, `${left}–${right - 1}`, `${row}, ${column}`, area, peak, p])
      line.append(make("td", "", text));
    table.append(line);
  });
  return table;
}

function card(image, i) {
  const item = make("li", `card ${image.kind}`), says = make("div", "says");
  const view = make("button", "view"), frame = make("span", "frame");
  view.type = "button";
  view.dataset.i = i;
  view.tabIndex = i ? -1 : 0;
  stackOf(image, 240, 1, frame);
  view.append(frame);
  view.onclick = () => enlarge(i);
  wordsOf(image, says, false);
  item.append(view, says);
  return item;
}

function more(until = list.children.length + CHUNK) {
  const part = document.createDocumentFragment();
  for (let i = list.children.length; i < Math.min(until, shown.length); i++) part.append(card(shown[i], i));
  list.append(part);
}

function filter() {
  const kind = document.querySelector("input[name=kind]:checked").value, text = $("search").value.toLowerCase();
  shown = images.filter(image => (kind === "all" || image.kind === kind || (kind === "note" && image.note))
    && image.path.toLowerCase().includes(text));
  list.replaceChildren();
  more();
  $("status").textContent = `${shown.length === images.length ? "All" : `${shown.length} of`} ${images.length} images.`;
}

function focusOn(i) {
  i = Math.max(0, Math.min(i, shown.length - 1));
  if (i >= list.children.length) more(i + CHUNK);
  const before = list.querySelector(".view[tabindex='0']"), view = list.children[i]?.firstChild;
  if (!view) return;
  if (before) before.tabIndex = -1;
  view.tabIndex = 0;
  view.focus();
}

function perRow() {
  const top = list.firstChild.offsetTop, place = [...list.children].findIndex(item => item.offsetTop !== top);
  return place < 0 ? list.children.length : place;
}

function enlarge(i) {
  open = Math.max(0, Math.min(i, shown.length - 1));
  const image = shown[open], picture = $("picture"), words = $("words");
  picture.replaceChildren();
  words.replaceChildren();
  picture.style.aspectRatio = image.size ? `${image.size[1]} / ${image.size[0]}` : "1";
  const stack = stackOf(image, 900, 2, picture);
  if (stack) {
    fit(stack, image.size);
    if (image.regions && $("boxes")?.checked)
      image.regions.forEach((region, k) => stack.append(boxOf(region, k, image.size)));
  }
  wordsOf(image, words, true);
  $("previous").disabled = open === 0;
  $("next").disabled = open === shown.length - 1;
  if (!dialog.open) dialog.showModal();
  fit(stack, image.size);
}

function fit(stack, size) {  // the frame may be lower than the image would like
  if (!stack) return;
  const frame = $("picture"), scale = Math.min(frame.clientWidth / size[1], frame.clientHeight / size[0]);
  stack.style.width = `${scale * size[1]}px`;
  stack.style.height = `${scale * size[0]}px`;
}

function boxOf([top, left, bottom, right], k, [h, w]) {
  const box = make("span", top < h / 12 ? "box low" : "box");
  const sides = {left: left / w, top: top / h, width: (right - left) / w, height: (bottom - top) / h};
  for (const side in sides) box.style[side] = `${100 * sides[side]}%`;
  box.append(make("b", "", k + 1));
  return box;
}

function blend(value) {
  for (const id of ["blend", "blend-large"]) {
    $(id).value = value;
    $(id).setAttribute("aria-valuetext", value < 5 ? "image" : value > 95 ? "map" : "overlay");
  }
  document.body.style.setProperty("--overlay", Math.min(1, value / 50));
  document.body.style.setProperty("--map", Math.max(0, value / 50 - 1));
}

document.addEventListener("keydown", event => {
  if (event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey || !shown.length) return;
  if (dialog.open) {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (step) { event.preventDefault(); enlarge(open + step); }
    return;
  }
  const columns = perRow(), here = event.target.matches(".view") ? +event.target.dataset.i : -1;
  const steps = {
    ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here < 0 ? 0 : here + columns, ArrowUp: here - columns,
    Home: 0, End: shown.length - 1,
  };
  if (!(event.key in steps) || (here < 0 && !event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  if (event.key === "ArrowUp" && here < columns) return;
  focusOn(event.key === "ArrowDown" && here + columns >= shown.length ? here : steps[event.key]);
});
dialog.addEventListener("close", () => { if (open >= 0) focusOn(open); });
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
$("previous").onclick = () => enlarge(open - 1);
$("next").onclick = () => enlarge(open + 1);
$("close").onclick = () => dialog.close();
if ($("boxes")) $("boxes").onchange = () => enlarge(open);
for (const id of ["blend", "blend-large"]) if ($(id)) $(id).oninput = event => blend(+event.target.value);
if ($("blend")) blend(50);
$("tools").onsubmit = event => event.preventDefault();
$("kinds").onchange = filter;
$("search").oninput = filter;
addEventListener("resize", () => { if (dialog.open) fit($("picture").querySelector(".stack"), shown[open].size); });
const end = new IntersectionObserver(entries => { if (entries[0].isIntersecting) more(); }, {rootMargin: "1200px"});
end.observe($("end"));
filter();
