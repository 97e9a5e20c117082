// Express with multer, as `testing.stacks` describes it: `node express_stack.js PORT`.
const express = require("express");
const multer = require("multer");

function textsIn(value) {
  if (typeof value === "string") return [value];
  if (Array.isArray(value)) return value.flatMap(textsIn);
  if (value && typeof value === "object" && !Buffer.isBuffer(value))
    return [...Object.keys(value), ...Object.values(value).flatMap(textsIn)];
  return [];
}

const app = express();
app.use(express.raw({ type: ["image/*", "application/octet-stream"], limit: "32mb" }));
app.use(express.json({ limit: "32mb", strict: false }));
app.use(express.urlencoded({ extended: true, limit: "32mb" }));
app.use(express.text({ type: "text/*", limit: "32mb" }));
app.use(multer({ storage: multer.memoryStorage() }).any());
app.use((request, response) => {
  const body = request.body;
  const found = [Buffer.isBuffer(body) ? body : Buffer.alloc(0), ...(request.files || []).map((file) => file.buffer)];
  const texts = [...textsIn(body), ...textsIn(request.query), request.path];
  response.json([...found, ...texts.map((text) => Buffer.from(text))].map((value) => value.toString("base64")));
});
app.use((error, request, response, next) => response.status(400).json([]));
app.listen(Number(process.argv[2]), "127.0.0.1");
