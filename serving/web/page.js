// The page to play with: each panel asks the routes that every program may ask, and shows what they answer.
"use strict";

const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const GONE = "The server does not answer; is it still running?";
const LATE = "The server took too long; try again.";
const KINDS = {words: "vectors", sentiment: "sentiment", handwriting: "labelling", text: "language-model"};
const percent = share => share > 0 && share < .001 ? "<0.1 %"
  : `${(100 * share).toFixed(share > .99 && share < 1 || share < .01 ? 1 : 0)} %`;
const rest = milliseconds => new Promise(done => setTimeout(done, milliseconds));

/** An element with attributes (functions listen, `share` is a custom property) and children. */
function make(tag, attributes = {}, ...children) {
  const made = /^(svg|text|circle|line|polyline|title)$/.test(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (name === "share") made.style.setProperty("--share", value.toFixed(4));
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// asking

let key = null; // lives here alone
let waiting = null; // for a key: the promise that all who ask share, and what fulfils it

/** The JSON that a route answers. Throws an error whose message is a sentence; `near` are other spellings. */
async function ask(path, body) {
  const shown = key, headers = shown ? {Authorization: `Bearer ${shown}`} : {};
  const options = {cache: "no-store", headers};
  if (body) {
    Object.assign(options, {method: "POST", body: JSON.stringify(body)});
    headers["Content-Type"] = "application/json";
  }
  let answer, said;
  try {
    answer = await fetch(path, options);
    said = await answer.json();
  } catch { throw new Error(answer?.status === 408 ? LATE : GONE) } // Ray Serve's own 408 is no JSON
  if (answer.status === 401) {
    if (shown === key) await keyEntered();
    return ask(path, body);
  }
  if (!answer.ok) throw Object.assign(new Error(said.error.message), said.error);
  return said;
}

function keyEntered() {
  if (waiting) return waiting.promise;
  waiting = {};
  waiting.promise = new Promise(done => { waiting.done = done });
  $("key-says").textContent = key ? "The server does not know this key; check it and enter it again." : "";
  $("key").hidden = false;
  $("panels").classList.add("waiting");
  $("key-value").focus();
  return waiting.promise;
}

$("key").addEventListener("submit", event => {
  event.preventDefault();
  key = $("key-value").value.trim();
  $("key-value").value = "";
  $("key").hidden = true;
  $("docs-key").hidden = false;
  $("panels").classList.remove("waiting");
  const {done} = waiting;
  waiting = null;
  done();
});

/** A place that says what went wrong: runs work, and drops it where newer work has begun. */
function teller(id) {
  let newest = 0;
  return async (work, instead = () => []) => {
    const mine = ++newest, current = () => mine === newest;
    try {
      await work(current);
      if (current()) $(id).replaceChildren();
    } catch (error) {
      if (current()) $(id).replaceChildren(error.message, ...instead(error));
    }
  };
}

/** Calls a function once nothing has asked for it for some milliseconds. */
function settled(milliseconds, call) {
  let timer;
  return (...given) => { clearTimeout(timer); timer = setTimeout(call, milliseconds, ...given) };
}

const bar = (head, share, said) =>
  make("li", {}, head, make("i", {share: Math.max(share, 0)}), make("span", {}, said));
const chip = (text, call) => make("button", {type: "button", title: text, click: () => call(text)}, text);

// words

const told = teller("words-says"), trail = [];
let walked = false;
const nearBar = ({word, similarity}) => bar(chip(word, showWord), similarity, similarity.toFixed(2));

function showWord(word) {
  walked = true;
  return told(async current => {
    const map = await ask(`v1/words/${encodeURIComponent(word)}/map`);
    if (!current()) return;
    const known = trail.indexOf(map.word);
    if (known >= 0) trail.length = known;
    trail.push(map.word);
    $("word").value = map.word;
    $("trail").hidden = trail.length < 2;
    $("trail").replaceChildren(...trail.flatMap(each => ["›", chip(each, showWord)]).slice(1));
    $("near-title").textContent = `Nearest to “${map.word}”`;
    $("near").replaceChildren(...map.places.slice(1, 13).map(nearBar));
    $("word-answer").hidden = false;
    drawMap(mapped = map);
  }, error => (error.near || []).map(each => chip(each, showWord)));
}

let mapped = null;

/** Draws the map in the pixels it has; a label stands where it covers neither a label nor a point. */
function drawMap({word, places, share}) {
  const wide = Math.max($("map").clientWidth, 280), high = Math.max(.75 * wide, 260);
  $("map").setAttribute("viewBox", `0 0 ${wide} ${high}`);
  const between = (values, size, margin) => {
    const low = Math.min(...values), spread = Math.max(...values) - low || 1;
    return values.map(value => margin + (value - low) / spread * (size - 2 * margin));
  };
  const xs = between(places.map(each => each.x), wide, 50), ys = between(places.map(each => each.y), high, 28);
  const labels = [], drawn = [];
  const covered = (left, top, right, bottom) => left < 2 || right > wide - 2 || top < 2 || bottom > high - 2
    || labels.some(box => left < box[2] && right > box[0] && top < box[3] && bottom > box[1])
    || xs.some((x, place) => x > left - 2 && x < right + 2 && ys[place] > top && ys[place] < bottom);
  places.forEach((each, place) => {
    const x = xs[place], y = ys[place], length = 7.6 * each.word.length + 3, centre = place ? "" : "centre";
    const walk = {class: centre, click: () => showWord(each.word)};
    const said = `${each.word} ${each.similarity.toFixed(2)}`;
    drawn.push(make("circle", {...walk, cx: x, cy: y, r: place ? 3.5 : 5.5}, make("title", {}, said)));
    const left = [x + 8, x - 8 - length, x - length / 2, x - length / 2], base = [y + 4, y + 4, y - 9, y + 19];
    const side = left.findIndex((at, side) => !covered(at, base[side] - 12, at + length, base[side] + 4));
    if (side < 0) return;
    labels.push([left[side], base[side] - 12, left[side] + length, base[side] + 4]);
    drawn.push(make("text", {...walk, x: left[side], y: base[side]}, each.word));
  });
  $("map").replaceChildren(...drawn);
  $("map-title").textContent = `Map of “${word}” and its ${places.length - 1} nearest words, some of them without`
    + ` a label. The plane holds ${percent(share)} of how they differ.`;
}

addEventListener("resize", settled(150, () => { if (mapped) drawMap(mapped) }));
$("word-form").addEventListener("submit", event => { event.preventDefault(); showWord($("word").value.trim()) });

const toldAnalogy = teller("analogy-says");
$("analogy-form").addEventListener("submit", event => {
  event.preventDefault();
  const [a, b, c] = ["a", "b", "c"].map(id => $(id).value.trim());
  toldAnalogy(async current => {
    $("analogy").replaceChildren();
    const {answers} = await ask("v1/words/analogy", {a, b, c});
    if (current()) $("analogy").replaceChildren(...answers.slice(0, 5).map(nearBar));
  }, error => (error.near || []).map(near => chip(near, () => {
    for (const id of ["a", "b", "c"]) if (error.message.includes(`'${$(id).value.trim()}'`)) $(id).value = near;
    $("analogy-form").requestSubmit();
  })));
});

async function beginWords() {
  const document = await ask("openapi.json");
  const [examples] = bodyOf(document, "/v1/words/analogy").examples;
  for (const id of ["a", "b", "c"]) $(id).value ||= examples[id];
  $("word-examples").replaceChildren(...["a", "b", "c"].map(id => chip(examples[id], showWord)));
  if (!walked) await showWord(examples.a); // who was quicker than the examples is not called back
}

// sentiment

const REVIEWS = [
  "A wonderful film: the actors are great and the story is moving.",
  "The plot is dull, the acting is poor, and I was bored from the beginning to the end.",
  "This is not a good film. I had hoped for more.",
  "Not bad at all; nobody could say that it was boring.",
];
// In the words that the synthetic reviews have: what they say is in the negations alone.
const SYNTHETIC = [
  "nobody could seriously claim that the plot was quite dull.",
  "everybody could seriously claim that the plot was quite dull.",
  "none of my friends could claim that the music was charming.",
];
const toldReview = teller("sentiment-says");

const readReview = () => toldReview(async current => {
  const text = $("review").value;
  if (!text.trim()) { $("verdict").hidden = true; return }
  const answer = await ask("v1/sentiment", {input: text, trajectory: true});
  if (!current()) return;
  const [found] = answer.results, labels = Object.keys(found.probabilities);
  // Of two labels the one that praises is at the right end; of more the likeliest.
  const good = labels.length === 2 ? labels.find(each => /^pos|good/i.test(each)) || labels[1] : found.label;
  const other = labels.length === 2 ? labels.find(each => each !== good) : "others";
  $("verdict").hidden = false;
  $("verdict-label").textContent = found.label;
  $("verdict-share").textContent = percent(found.probabilities[found.label]);
  $("verdict-bar").firstChild.style.setProperty("--share", found.probabilities[good]);
  $("end-low").textContent = other;
  $("end-high").textContent = good;
  drawReading(Array.from(text), found.trajectory, good);
  $("sentiment-notes").textContent = [
    found.cut ? `The first ${found.cut} words were not read: only the last ${found.words} are.` : "",
    answer.synthetic ? "The model was trained on reviews that a program made, so it knows few words." : "",
  ].join(" ");
});

/** Tints each word by how far it moved the log-odds of `good`, and draws the way that they went. */
function drawReading(characters, trajectory, good) {
  const shares = trajectory.map(word => word.probabilities[good]);
  const odds = shares.map(share => Math.min(Math.max(share, 1e-6), 1 - 1e-6)).map(share => Math.log(share / (1 - share)));
  const moved = odds.map((each, place) => each - (place ? odds[place - 1] : 0));
  const most = Math.max(1, ...moved.map(Math.abs)), tinted = [];
  let behind = 0;
  trajectory.forEach((word, place) => {
    const far = Math.abs(moved[place]), way = moved[place] < 0 ? "down" : "up";
    const said = `${way} by ${far.toFixed(2)} nats, to ${good} ${percent(shares[place])}`;
    tinted.push(characters.slice(behind, word.start).join(""));
    tinted.push(make("mark", {class: way, share: far / most, title: said}, word.text));
    behind = word.end;
  });
  $("tinted").replaceChildren(...tinted, characters.slice(behind).join(""));
  const wide = Math.max($("course").clientWidth, 280), high = 150, left = 46;
  $("course").setAttribute("viewBox", `0 0 ${wide} ${high}`);
  const x = place => left + place / Math.max(shares.length - 1, 1) * (wide - left - 4);
  const y = share => high - 14 - share * (high - 28);
  const path = shares.map((share, place) => `${x(place).toFixed(1)},${y(share).toFixed(1)}`);
  $("course").replaceChildren(
    ...[0, .5, 1].flatMap(share => [
      make("line", {x1: left, x2: wide - 4, y1: y(share), y2: y(share)}),
      make("text", {x: left - 6, y: y(share) + 4, "text-anchor": "end"}, `${100 * share} %`),
    ]),
    make("polyline", {points: path.join(" ")}),
    ...path.slice(-1).map(last => make("circle", {cx: last.split(",")[0], cy: last.split(",")[1], r: 4})));
  $("course-title").textContent = shares.length
    ? `How likely “${good}” was after each word: ${percent(shares[0])} after the first, ${percent(shares.at(-1))} after the last.`
    : "There is no word in it.";
}

$("review").addEventListener("input", settled(200, readReview));

async function beginSentiment() {
  const {synthetic} = await ask("v1/sentiment", {input: REVIEWS[0]});
  $("review-examples").append(...(synthetic ? SYNTHETIC : REVIEWS).map(text => chip(text, () => {
    $("review").value = text;
    readReview();
  })));
}

// handwriting

const ROWS = 16, COLUMNS = 8, BITS = ROWS * COLUMNS;
const INK = [160, 240], SIDE = 12; // pixels of a cell to draw in, and of a bit
const PEN = .72, LARGEST = .25; // bits from a line's middle that it covers; bits that a pixel may become
let labellers = []; // those that are served, as /v1/models lists them: one, or one of each direction
const cells = [], toldWriting = teller("handwriting-says");

/** Strokes ([x, y] of the cell, in its pixels) as 16 x 8 bits: fitted into the frame with their shape kept, as
 * the letters of the training set are. */
function bitsOf(strokes) {
  const xs = strokes.flat().map(([x]) => x), ys = strokes.flat().map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((COLUMNS - 1) / (right - left || 1), (ROWS - 1) / (bottom - top || 1), LARGEST);
  const fitted = ([x, y]) => [
    (x - (left + right) / 2) * scale + (COLUMNS - 1) / 2,
    (y - (top + bottom) / 2) * scale + (ROWS - 1) / 2,
  ];
  const lines = strokes.map(stroke => stroke.map(fitted)).flatMap(stroke =>
    stroke.map((point, place) => [stroke[Math.max(place - 1, 0)], point]));
  return Array.from({length: BITS}, (_, bit) => {
    const centre = [bit % COLUMNS, Math.floor(bit / COLUMNS)];
    return lines.some(([from, to]) => distance(centre, from, to) < PEN) ? 1 : 0;
  });
}

/** From a point to a line between two others. */
function distance([x, y], [x1, y1], [x2, y2]) {
  const dx = x2 - x1, dy = y2 - y1, square = dx * dx + dy * dy;
  const along = square ? Math.min(Math.max(((x - x1) * dx + (y - y1) * dy) / square, 0), 1) : 0;
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}

function addCell() {
  const number = cells.length + 1;
  const ink = make("canvas", {class: "ink", width: INK[0], height: INK[1], "aria-hidden": "true"});
  const size = {width: SIDE * COLUMNS, height: SIDE * ROWS};
  const bits = make("canvas", {class: "bits", ...size, tabindex: 0, role: "application"});
  const cell = {number, ink, bits, strokes: [], set: null, cursor: null};
  const at = event => {
    const box = ink.getBoundingClientRect();
    return [(event.clientX - box.left) * INK[0] / box.width, (event.clientY - box.top) * INK[1] / box.height];
  };
  ink.addEventListener("pointerdown", event => {
    ink.setPointerCapture(event.pointerId);
    cell.strokes.push([at(event)]);
    drawn(cell);
  });
  ink.addEventListener("pointermove", event => {
    if (!ink.hasPointerCapture(event.pointerId)) return;
    cell.strokes.at(-1).push(at(event));
    drawn(cell);
  });
  bits.addEventListener("focus", () => { cell.cursor ??= 0; paint(cell) });
  bits.addEventListener("blur", () => { cell.cursor = null; paint(cell) });
  bits.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS}[event.key];
    if (step) cell.cursor = (cell.cursor + step + BITS) % BITS;
    else if (event.key === " ") (cell.set ??= new Array(BITS).fill(0))[cell.cursor] ^= 1;
    else if (event.key === "Delete") Object.assign(cell, {strokes: [], set: null});
    else return;
    event.preventDefault();
    paint(cell);
    if (!step) readWriting();
  });
  cells.push(cell);
  $("cells").append(make("div", {class: "cell", role: "group", "aria-label": `Cell ${number}`}, ink, bits));
  paint(cell);
}

function drawn(cell) { cell.set = bitsOf(cell.strokes); paint(cell); readWriting() }

function paint(cell) {
  const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name);
  const ink = cell.ink.getContext("2d");
  ink.clearRect(0, 0, ...INK);
  Object.assign(ink, {lineWidth: 9, lineCap: "round", lineJoin: "round", strokeStyle: colour("--ink")});
  for (const stroke of cell.strokes) {
    ink.beginPath();
    ink.moveTo(...stroke[0]);
    stroke.forEach(point => ink.lineTo(...point));
    ink.stroke();
  }
  const bits = cell.bits.getContext("2d");
  for (let bit = 0; bit < BITS; bit++) {
    const [x, y] = [bit % COLUMNS * SIDE, Math.floor(bit / COLUMNS) * SIDE];
    bits.fillStyle = colour(cell.set?.[bit] ? "--accent" : "--paper");
    bits.fillRect(x, y, SIDE, SIDE);
    bits.strokeStyle = colour(bit === cell.cursor ? "--other" : "--line");
    bits.lineWidth = bit === cell.cursor ? 3 : 1;
    bits.strokeRect(x + 1, y + 1, SIDE - 2, SIDE - 2);
  }
  const count = cell.set ? cell.set.reduce((sum, bit) => sum + bit, 0) : 0;
  const place = [Math.floor(cell.cursor / COLUMNS), cell.cursor % COLUMNS].map(each => each + 1);
  const where = cell.cursor === null ? "" : `, at row ${place[0]}, column ${place[1]}`;
  cell.bits.setAttribute("aria-label", `Bits of cell ${cell.number}: ${count} set${where}`);
}

const readWriting = settled(120, () => toldWriting(async current => {
  const letters = cells.filter(cell => cell.set?.includes(1));
  if (!letters.length) { $("readings").replaceChildren(); return }
  const frames = letters.map(({set}) => set.join("").match(/.{8}/g));
  const answers = await Promise.all(labellers.map(({id}) =>
    ask("v1/labels", {model: id, input: [frames], alternatives: 4})));
  if (!current()) return;
  $("readings").replaceChildren(...answers.map(({results: [found]}, place) =>
    reading(labellers[place].both ? "Read both ways" : "Read from the left", found)));
}));

/** Says what brings a second reading beside the one of the only labeller. */
function sayOther(both) {
  const way = both ? "from the left alone" : "both ways";
  $("directions").replaceChildren(`One labeller is served. A second one, that reads ${way}, would be shown beside it: `,
    make("code", {}, `wordloom train labelling ... --set labelling.both=${!both}`));
  $("directions").hidden = false;
}

function reading(title, found) {
  const said = ({label, probability}) => `${label} ${percent(probability)}`;
  const letters = found.frames.map(({label, probability, alternatives}) => make("li", {}, make("b", {}, label),
    percent(probability), ...alternatives.slice(1).map(each => make("small", {}, said(each)))));
  return make("div", {}, make("h3", {}, title), make("p", {class: "word-read"}, found.text),
    make("ol", {class: "letters"}, ...letters));
}

for (let number = 0; number < 6; number++) addCell();
$("cells-more").addEventListener("click", addCell);
$("cells-example").addEventListener("click", () => toldWriting(async () => {
  const [{input: [example]}] = bodyOf(await ask("openapi.json"), "/v1/labels").examples;
  while (cells.length < example.length) addCell();
  cells.forEach((cell, place) => {
    const bits = example[place] && Array.from(example[place].join(""), Number);
    paint(Object.assign(cell, {strokes: [], set: bits ?? null}));
  });
  readWriting();
}));
$("cells-clear").addEventListener("click", () => {
  for (const cell of cells) paint(Object.assign(cell, {strokes: [], set: null}));
  readWriting();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cells.forEach(paint));

// text

const PIECE = 48; // characters that are asked for at once
const PACE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 16; // milliseconds a character
const toldText = teller("text-says");
// `anchor` is where the piece began that is being shown: its state, or the seed text and its random seed.
let writing = null;

const temperature = () => Number($("temperature").value);

let longest = null; // that the server makes at once, as its document says

async function piece(characters) {
  const {anchor, temperature} = writing;
  longest ??= bodyOf(await ask("openapi.json"), "/v1/text/generate").properties.length.maximum;
  const wanted = {length: Math.min(characters, longest), temperature, return_state: true};
  const answer = await ask("v1/text/generate", {...anchor, ...wanted});
  return {text: Array.from(answer.text), state: answer.state, seed: answer.seed};
}

/** Stands exactly behind the characters shown, though the model was ahead: the same characters once more, whose
 * random numbers the state holds, and no further. */
async function rewind() {
  if (!writing.piece.text.length) return;
  if (writing.shown === writing.piece.text.length) writing.anchor = {state: writing.piece.state};
  else if (writing.shown) {
    const again = await piece(writing.shown);
    const same = again.text.every((character, place) => character === writing.piece.text[place]);
    // Rounding can part them, where other texts were in the making beside: then the text is read again.
    writing.anchor = same ? {state: again.state} : {seed_text: writing.seed + writing.made.join("")};
  }
  writing.piece = {text: []};
  writing.shown = 0;
}

const write = () => toldText(async () => {
  if (!$("length").reportValidity()) return;
  if (!writing) {
    const seed = $("seed").value, nothing = {text: []};
    writing = {seed, anchor: {seed_text: seed}, made: [], piece: nothing, shown: 0, temperature: temperature()};
    $("page-text").replaceChildren(make("span", {class: "given"}, writing.seed));
    $("written").hidden = false;
    $("likely").replaceChildren();
    $("likely-title").replaceChildren();
  }
  const mine = writing;
  mine.running = true;
  buttons();
  try {
    for (let left = Number($("length").value); left > 0 && mine.running && mine === writing; left--) {
      if (mine.temperature !== temperature()) { await rewind(); mine.temperature = temperature() }
      if (mine.shown === mine.piece.text.length) {
        if (mine.piece.state) mine.anchor = {state: mine.piece.state};
        const next = await piece(Math.min(PIECE, left));
        if (mine !== writing) return;
        if (mine.anchor.state === undefined) mine.anchor.seed = next.seed;
        Object.assign(mine, {piece: next, shown: 0});
      }
      show(mine.piece.text[mine.shown++]);
      if (PACE) await rest(PACE);
    }
    if (mine === writing) await surprise();
  } finally {
    mine.running = false;
    buttons();
  }
});

function show(character) {
  const place = writing.made.push(character) - 1;
  $("page-text").append(make("mark", {click: () => look(place)}, character));
  $("place").max = place;
}

/** Tints each character by the bits it cost the model. */
async function surprise() {
  const mine = writing, before = Array.from(mine.seed).length, count = mine.made.length;
  const {bits} = await ask("v1/text/score", {text: mine.seed + mine.made.join(""), per_character: true});
  if (mine !== writing) return;
  const marks = $("page-text").querySelectorAll("mark");
  for (let place = 0; place < count; place++) {
    const cost = bits[before + place];
    marks[place].classList.toggle("s1", cost >= 2 && cost < 4);
    marks[place].classList.toggle("s2", cost >= 4 && cost < 7);
    marks[place].classList.toggle("s3", cost >= 7);
  }
}

function look(place) {
  $("place").value = place;
  $("place").setAttribute("aria-valuetext", `character ${place + 1}: ${named(writing.made[place])}`);
  $("page-text").querySelector(".here")?.classList.remove("here");
  $("page-text").querySelectorAll("mark")[place].classList.add("here");
  likely(place);
}

const named = character => ({" ": "space", "\n": "line break", "\t": "tab"})[character] ?? character;
const toldLikely = teller("text-says");
const likely = settled(100, place => toldLikely(async current => {
  const text = writing.seed + writing.made.slice(0, place).join("");
  const {following} = await ask("v1/text/next", {text, n: 6});
  if (!current()) return;
  $("likely-title").textContent = `In place of “${named(writing.made[place])}”`;
  $("likely").replaceChildren(...following.map(each => {
    const letter = make("span", {class: "letter"}, named(each.character));
    const line = bar(letter, each.probability, percent(each.probability));
    line.classList.toggle("here", each.character === writing.made[place]);
    return line;
  }));
}));

function buttons() {
  $("write").textContent = writing?.running ? "Pause" : writing ? "Go on" : "Write";
  $("again").disabled = !writing;
}

$("write").addEventListener("click", () => { if (writing?.running) writing.running = false; else write() });
$("again").addEventListener("click", () => {
  writing.running = false;
  writing = null;
  $("written").hidden = true;
  buttons();
});
$("temperature").addEventListener("input", () => { $("temperature-value").textContent = temperature() });
$("place").addEventListener("input", () => look(Number($("place").value)));

// about

const toldAbout = teller("about-says");

// What says how good a model is stands before what says how large it is.
const QUALITY = /accuracy|auc|bits|error|f1|loss|perplexity/;

function modelCard(model) {
  const first = ([name]) => QUALITY.test(name) ? 0 : 1;
  const shown = value => Number.isInteger(value) ? value.toLocaleString("en") : value.toPrecision(4);
  const sorted = Object.entries(model.figures).sort((one, other) => first(one) - first(other));
  const figures = sorted.map(([name, value]) =>
    make("div", {}, make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, shown(value))));
  const lineage = model.lineage.map(({kind, identity}) =>
    make("li", {title: identity}, `${kind} `, make("code", {}, identity.slice(0, 12))));
  const version = `Version ${model.version.slice(0, 12)}, made ${model.made.slice(0, 16).replace("T", " ")}`;
  return make("div", {class: "model"}, make("h3", {}, model.kind.replaceAll("-", " ")),
    make("p", {class: "note"}, version),
    make("dl", {}, ...figures), make("p", {class: "note"}, "Made from"),
    make("ol", {class: "lineage"}, make("li", {}, model.kind), ...lineage));
}

const showTraffic = () => toldAbout(async () => {
  const routes = (await ask("v1/traffic")).filter(({route}) => /^\/v1\/(?!traffic|models)/.test(route));
  $("traffic").replaceChildren(...routes.map(({route, requests, errors, median_ms, p95_ms}) => make("tr", {},
    ...[make("code", {}, route), requests, errors, median_ms.toFixed(1), p95_ms.toFixed(1)].map(
      value => make("td", {}, value)))));
});

// panels

const panels = [...document.querySelectorAll("main > section")];

function open() {
  const wanted = panels.find(each => `#${each.id}` === location.hash) ?? panels[0];
  for (const panel of panels) panel.hidden = panel !== wanted;
  for (const link of document.querySelectorAll("header nav a")) {
    link.removeAttribute("aria-current");
    if (link.hash === `#${wanted.id}`) link.setAttribute("aria-current", "page");
  }
  document.title = `${wanted.querySelector("h2").textContent} · Wordloom`;
  if (wanted.id === "about") showTraffic();
}

/** The schema of what a route takes, out of the server's own document. */
function bodyOf(document, route) {
  const {schema} = document.paths[route].post.requestBody.content["application/json"];
  return schema.$ref ? schema.$ref.slice(2).split("/").reduce((at, part) => at[part], document) : schema;
}

/** Says in a panel why there is nothing to play with. */
function without(panel, ...sentence) {
  const says = $(panel).querySelector(".absent");
  says.replaceChildren(...sentence);
  says.hidden = false;
  $(panel).querySelector(".present").hidden = true;
}

async function begin() {
  const {data, absent} = await ask("v1/models");
  for (const [panel, kind] of Object.entries(KINDS))
    if (kind in absent) without(panel, "No model of this kind is served. This makes one: ", make("code", {}, absent[kind]));
  labellers = data.filter(model => model.kind === KINDS.handwriting);
  readWriting();
  if (labellers.length === 1) sayOther(labellers[0].both);
  const reads = labellers[0]?.reads;
  if (reads && (reads.width !== BITS || reads.rows !== ROWS))
    without("handwriting", `The labeller that is served does not read letters of ${ROWS} × ${COLUMNS} bits.`);
  $("models").replaceChildren(...data.map(modelCard));
  if (!("vectors" in absent)) await beginWords();
  performance.mark("first view");
  if (!("sentiment" in absent)) await beginSentiment();
}

addEventListener("hashchange", () => {
  open();
  $("panels").focus({preventScroll: true});
  scrollTo(0, 0);
});
setInterval(() => { if (!$("about").hidden && !document.hidden && !waiting) showTraffic() }, 2000);
open();
begin()
  .catch(error => document.querySelectorAll(".says").forEach(says => { says.textContent = error.message }))
  .finally(() => $("panels").setAttribute("aria-busy", "false"));
