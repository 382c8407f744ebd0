// OHIF as it is shipped, in headless Chromium, on Orthanc's DICOMweb.
//
//     node ohif.mjs OHIF_DIST NODE_MODULES CHROMIUM ORTHANC_ADDRESS OUT STUDY_UID SERIES_NUMBER=NAME...
//
// Opens the study and, one after the other, each series; writes OUT/NAME.png. Prints a JSON object: for each name the text
// of the page, its errors, the kinds of embedded documents, how much of the largest picture is not black, and what is drawn over it: for each drawing
// its label and its points as columns and rows of the image.
import { createServer, request } from "node:http";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { extname, join, normalize, resolve } from "node:path";

const [dist, modules, chromium, orthanc, out, study, ...wanted] = process.argv.slice(2);
const puppeteer = createRequire(resolve(modules, "package.json"))("puppeteer-core");

const CONFIG = `window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 1, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true, defaultDataSourceName: "dicomweb",
  investigationalUseDialog: { option: "never" },
  dataSources: [{ namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "dicomweb",
    configuration: { friendlyName: "Orthanc", name: "orthanc", wadoUriRoot: "/dicom-web", qidoRoot: "/dicom-web",
      wadoRoot: "/dicom-web", qidoSupportsIncludeField: false, imageRendering: "wadors", thumbnailRendering: "wadors",
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: "studies" } } }],
};`;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm",
  ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".woff2": "font/woff2" };

// The viewer's files, and Orthanc under /dicom-web, as one origin.
const server = createServer(async (incoming, answer) => {
  const path = new URL(incoming.url, "http://here").pathname;
  answer.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  answer.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  if (path.startsWith("/dicom-web")) {
    const [hostname, port] = orthanc.split(":");
    const headers = { ...incoming.headers, host: `127.0.0.1:${server.address().port}` };
    const onward = request({ hostname, port, path: incoming.url, method: incoming.method, headers }, (back) => {
      answer.writeHead(back.statusCode, back.headers);
      back.pipe(answer);
    });
    onward.on("error", () => answer.writeHead(502).end());
    incoming.pipe(onward);
    return;
  }
  if (path === "/app-config.js") {
    answer.setHeader("Content-Type", "text/javascript");
    return answer.end(CONFIG);
  }
  const file = extname(path) ? join(dist, normalize(path)) : join(dist, "index.html");
  try {
    const bytes = await readFile(file);
    answer.setHeader("Content-Type", TYPES[extname(file)] ?? "application/octet-stream");
    answer.end(bytes);
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}`;

const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"],
});

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// What is drawn over the image, in the image's own columns and rows.
const drawings = () => {
  const found = [];
  for (const engine of window.cornerstone?.getRenderingEngines?.() ?? []) {
    for (const viewport of engine.getViewports()) {
      const image = viewport.csImage ?? viewport.getCornerstoneImage?.();
      if (!image) continue;
      const toIndex = (point) => {
        const world = viewport.canvasToWorld(point);
        const index = window.cornerstone.utilities.worldToImageCoords(viewport.getCurrentImageId(), world);
        return index && [index[0], index[1]];
      };
      for (const shape of viewport.element.querySelectorAll("svg.svg-layer polyline, svg.svg-layer path, svg.svg-layer circle, svg.svg-layer line")) {
        const numbers = (shape.getAttribute("points") ?? "").match(/-?\d+(\.\d+)?/g)?.map(Number) ?? [];
        const points = [];
        for (let at = 0; at + 1 < numbers.length; at += 2) points.push(toIndex([numbers[at], numbers[at + 1]]));
        if (points.length) found.push({ kind: shape.tagName, points });
      }
      const text = [...viewport.element.querySelectorAll("svg.svg-layer text")].map((it) => it.textContent);
      found.push({ kind: "text", text, size: [image.columns, image.rows] });
    }
  }
  return found;
};

// How much of the picture in the middle of the viewer is neither black nor of one colour.
const brightness = () => {
  let best = 0;
  for (const canvas of document.querySelectorAll("canvas")) {
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [64, 64];
    const context = copy.getContext("2d");
    try { context.drawImage(canvas, 0, 0, 64, 64); } catch { continue; }
    const pixels = context.getImageData(0, 0, 64, 64).data;
    let bright = 0;
    for (let at = 0; at < pixels.length; at += 4) if (pixels[at] + pixels[at + 1] + pixels[at + 2] > 60) bright += 1;
    best = Math.max(best, bright / 4096);
  }
  return best;
};

const page = await browser.newPage();
await page.setViewport({ width: 1400, height: 900 });
let errors = [];
page.on("pageerror", (error) => errors.push(String(error.message ?? error)));

// What a first visitor is asked and told.
const dismiss = () => page.evaluate(() => {
  for (const button of document.querySelectorAll("button")) {
    if (/skip all|confirm and hide/i.test(button.textContent ?? "")) button.click();
  }
});

// The study with its list of series; the first load of all is at times a blank page, so it is tried twice.
async function open() {
  for (let attempt = 0; attempt < 2; attempt += 1) {
    await page.goto(`${address}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: "domcontentloaded" });
    for (let waited = 0; waited < 30; waited += 1) {
      await pause(1000);
      await dismiss();
      const listed = await page.evaluate(() => document.querySelectorAll("[data-series]").length);
      if (listed < wanted.length) continue;
      // The tour begins a moment later, and covers the page.
      for (let more = 0; more < 6; more += 1) {
        await pause(1000);
        await dismiss();
      }
      return;
    }
  }
  throw new Error("OHIF lists no series");
}

const state = async () => ({
  text: await page.evaluate(() => document.body.innerText),
  bright: await page.evaluate(brightness),
  drawn: await page.evaluate(drawings).catch((error) => [{ kind: "error", text: [String(error)] }]),
  objects: await page.evaluate(() => [...document.querySelectorAll("object, embed, iframe")].map((it) => it.type || it.data || it.src)),
});

// Opens a series by its number, as a person would, and waits until nothing changes any more.
async function look(series, name) {
  errors = [];
  await dismiss();
  const entry = await page.waitForSelector(`[data-series="${series}"]`, { timeout: 20000 });
  await entry.click({ count: 2 });
  let [seen, settled] = [{}, 0];
  for (let waited = 0; waited < 25 && settled < 2; waited += 1) {
    await pause(1000);
    const now = await state();
    settled = JSON.stringify(now) === JSON.stringify(seen) ? settled + 1 : 0;
    seen = now;
  }
  await page.screenshot({ path: join(out, `${name}.png`) });
  return { ...seen, errors };
}

const result = {};
try {
  await open();
  for (const it of wanted) {
    const [series, name] = it.split("=");
    result[name] = await look(series, name);
  }
} finally {
  await browser.close();
  server.close();
}
console.log(JSON.stringify(result));
