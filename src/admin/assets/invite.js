"use strict";
// Returns the QR code (ISO/IEC 18004) of these bytes, with error correction L, as rows of true for
// dark; null if they are too many. It is drawn here, since the server must not see what is in it.
function qrCode(data) {
  const CHECK = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30,
    30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30];
  const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18,
    19, 19, 20, 21, 22, 24, 25];
  const alignments = (version) => version > 1 ? Math.floor(version / 7) + 2 : 0;
  // all codewords of a version, and those for data
  const codewords = (version) => {
    const count = alignments(version);
    const patterns = count ? (25 * count - 10) * count - 55 : 0;
    return ((16 * version + 128) * version + 64 - patterns - (version < 7 ? 0 : 36)) >> 3;
  };
  const room = (version) => codewords(version) - CHECK[version - 1] * BLOCKS[version - 1];
  const lengthBits = (version) => version < 10 ? 8 : 16;
  let version = 1;
  while (version <= 40 && 4 + lengthBits(version) + 8 * data.length > 8 * room(version)) version++;
  if (version > 40) return null;

  const bits = [];
  const put = (value, length) => { while (length--) bits.push(value >> length & 1); };
  put(4, 4);
  put(data.length, lengthBits(version));
  for (const byte of data) put(byte, 8);
  const end = 8 * room(version);
  put(0, Math.min(4, end - bits.length));
  put(0, -bits.length & 7);
  for (let pad = 0xec; bits.length < end; pad ^= 0xec ^ 0x11) put(pad, 8);
  const bytes = [];
  for (let at = 0; at < end; at += 8) bytes.push(bits.slice(at, at + 8).reduce((byte, bit) => byte << 1 | bit));

  // Reed-Solomon codes over GF(256)
  const times = (a, b) => {
    let product = 0;
    for (let bit = 7; bit >= 0; bit--) product = product << 1 ^ (product >> 7) * 0x11d ^ (b >> bit & 1) * a;
    return product;
  };
  const degree = CHECK[version - 1], count = BLOCKS[version - 1];
  const divisor = Array(degree).fill(0);
  divisor[degree - 1] = 1;
  for (let root = 1, step = 0; step < degree; step++, root = times(root, 2)) {
    for (let at = 0; at < degree; at++) divisor[at] = times(divisor[at], root) ^ (divisor[at + 1] || 0);
  }
  const short = Math.floor(codewords(version) / count) - degree;
  const longFrom = count - codewords(version) % count;
  const blocks = [], checks = [];
  for (let block = 0, at = 0; block < count; block++) {
    const part = bytes.slice(at, at += short + (block < longFrom ? 0 : 1));
    const rest = Array(degree).fill(0);
    for (const byte of part) {
      const factor = byte ^ rest.shift();
      rest.push(0);
      divisor.forEach((value, at) => { rest[at] ^= times(value, factor); });
    }
    blocks.push(part);
    checks.push(rest);
  }
  const all = [];
  for (let at = 0; at <= short; at++) for (const block of blocks) if (at < block.length) all.push(block[at]);
  for (let at = 0; at < degree; at++) for (const check of checks) all.push(check[at]);

  // the patterns; null is a module for data
  const size = 17 + 4 * version, side = [...Array(size).keys()];
  const modules = side.map(() => Array(size).fill(null));
  const square = (x, y, reach, light) => {
    for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
      if (x + dx in modules && y + dy in modules) {
        modules[y + dy][x + dx] = !light.includes(Math.max(Math.abs(dx), Math.abs(dy)));
      }
    }
  };
  for (const at of side) modules[6][at] = modules[at][6] = at % 2 === 0;
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, [2, 4]);
  const last = alignments(version) - 1;
  const gap = version === 32 ? 26 : Math.ceil((4 * version + 4) / (2 * last)) * 2;
  const place = (number) => number ? size - 7 - (last - number) * gap : 6;
  for (let i = 0; i <= last; i++) for (let j = 0; j <= last; j++) {
    if ((i || j) && (i || j < last) && (j || i < last)) square(place(i), place(j), 2, [1]);
  }
  // bits of a number with their check bits
  const checked = (value, length, divisor) => {
    let rest = value;
    for (let step = 0; step < length; step++) rest = rest << 1 ^ (rest >> length - 1) * divisor;
    return value << length | rest;
  };
  if (version >= 7) {
    const number = checked(version, 12, 0x1f25);
    for (let bit = 0; bit < 18; bit++) {
      const a = size - 11 + bit % 3, b = Math.floor(bit / 3);
      modules[a][b] = modules[b][a] = (number >> bit & 1) === 1;
    }
  }
  const format = (rows, mask) => {
    const number = checked(8 | mask, 10, 0x537) ^ 0x5412;
    const bit = (at) => (number >> at & 1) === 1;
    for (let at = 0; at < 15; at++) {
      rows[at < 6 ? at : at < 8 ? at + 1 : 8][at < 8 ? 8 : at === 8 ? 7 : 14 - at] = bit(at);
      rows[at < 8 ? 8 : size - 15 + at][at < 8 ? size - 1 - at : 8] = bit(at);
    }
    rows[size - 8][8] = true;
  };
  format(modules, 0);
  const free = modules.map((row) => row.map((module) => module === null));
  let next = 0;
  for (let right = size - 1; right > 0; right -= right === 8 ? 3 : 2) for (const step of side) {
    const y = right + 1 & 2 ? step : size - 1 - step;
    for (const x of [right, right - 1]) if (free[y][x]) {
      modules[y][x] = (all[next >> 3] >> (~next & 7) & 1) === 1;
      next++;
    }
  }

  // the mask with the fewest patterns that readers mistake
  const masks = [(x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
    (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => x * y % 2 + x * y % 3,
    (x, y) => (x * y % 2 + x * y % 3) % 2, (x, y) => ((x + y) % 2 + x * y % 3) % 2];
  const penalty = (rows) => {
    const text = (row) => row.map(Number).join("");
    const lines = [...rows.map(text), ...side.map((x) => text(rows.map((row) => row[x])))];
    let sum = 0;
    for (const line of lines) {
      for (const [run] of line.matchAll(/0{5,}|1{5,}/g)) sum += run.length - 2;
      sum += 40 * [...line.matchAll(/(?=10111010000|00001011101)/g)].length;
    }
    for (let y = 1; y < size; y++) for (let x = 1; x < size; x++) {
      const same = rows[y][x] === rows[y - 1][x] && rows[y][x] === rows[y][x - 1] && rows[y][x] === rows[y - 1][x - 1];
      if (same) sum += 3;
    }
    const dark = rows.flat().filter(Boolean).length / size / size;
    return sum + 10 * Math.floor(Math.abs(dark - 0.5) * 20);
  };
  let best = null;
  masks.forEach((isFlipped, mask) => {
    const rows = modules.map((row, y) => row.map((dark, x) => dark !== (free[y][x] && !isFlipped(x, y))));
    format(rows, mask);
    const score = penalty(rows);
    if (!best || score < best.score) best = { rows, score };
  });
  return best.rows;
}

// The page of an invitation: the device's keys are made here, and its private key never leaves.
{
  const page = document.getElementById("invitation");
  const steps = ["no-token", "no-key", "refused", "too-many", "failed", "begin", "enrolled"];
  let token = "", keys = null;

  const show = (...shown) => {
    for (const id of steps) document.getElementById(id).hidden = !shown.includes(id);
    page.hidden = false;
  };

  const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

  // Returns new keys in base64. X25519 (RFC 7748) has bits that do not count: they are set as
  // WireGuard's tools set them.
  const make = async () => {
    const pair = await crypto.subtle.generateKey({ name: "X25519" }, true, ["deriveBits"]);
    const { d, x } = await crypto.subtle.exportKey("jwk", pair.privateKey);
    const [secret, open] = [d, x].map((text) =>
      Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0)));
    secret[0] &= 248;
    secret[31] = secret[31] & 127 | 64;
    return { secret: base64(secret), open: base64(open), shared: base64(crypto.getRandomValues(new Uint8Array(32))) };
  };

  // Draws the code of a text into an element, with the quiet zone that readers need.
  const draw = (element, text) => {
    const rows = qrCode(new TextEncoder().encode(text));
    element.hidden = !rows;
    if (!rows) return;
    const side = rows.length + 8;
    const dark = rows.flatMap((row, y) => row.map((dark, x) => dark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""));
    element.querySelector("svg").setAttribute("viewBox", `0 0 ${side} ${side}`);
    const [light, modules] = element.querySelectorAll("path");
    light.setAttribute("d", `M0 0h${side}v${side}H0z`);
    modules.setAttribute("d", dark.join(""));
  };

  // The token is in the fragment, which no browser sends, and does not stay in the address.
  const begin = () => {
    if (location.hash.length > 1) {
      token = location.hash.slice(1);
      keys = null;
      history.replaceState(null, "", location.pathname);
    }
    show(token ? "begin" : "no-token");
  };

  const enrol = async () => {
    try {
      // the same ones again after an answer that was lost: the server knows them then
      keys = keys || await make();
    } catch {
      return show("no-key");
    }
    const body = new URLSearchParams({ link: token, key: keys.open, preshared: keys.shared });
    const answer = await fetch("/invite", { method: "POST", body, credentials: "omit", redirect: "error" });
    if (answer.status === 403) return show("refused");
    if (answer.status === 429) return show("too-many", "begin");
    const text = answer.ok ? await answer.text() : "";
    if (!/^# PrivateKey = /m.test(text)) return show("failed", "begin");
    const file = text.replace(/^# PrivateKey = .*$/m, "PrivateKey = " + keys.secret);
    document.getElementById("file").value = file;
    draw(document.getElementById("code"), file);
    show("enrolled");
  };

  if (page) {
    const button = document.querySelector("#begin button");
    button.addEventListener("click", async () => {
      button.disabled = true;
      await enrol().catch(() => show("failed", "begin"));
      button.disabled = false;
    });
    // another link, opened in the same place
    addEventListener("hashchange", () => { if (location.hash.length > 1) begin(); });
    begin();
  }
}
