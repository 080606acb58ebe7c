// QR codes in pictures and before the camera, read in the browser: by its own reader where it has
// one (BarcodeDetector), else by the vendored one.

const LARGEST = 1200; // pixels of the longer side at the first look
// Further looks at other sizes: what one misses of a dense code another finds.
const SCALES = [1, 1.25, 0.75, 1.5, 2, 0.6, 0.4];
const EVERY = 150; // milliseconds between two looks through the camera

/** Whichever reader there is: from a canvas to the text, null where it finds no code. */
async function chooseReader() {
  if ("BarcodeDetector" in window) {
    const formats = await BarcodeDetector.getSupportedFormats();
    if (formats.includes("qr_code")) {
      const detector = new BarcodeDetector({ formats: ["qr_code"] });
      return async (canvas) => (await detector.detect(canvas))[0]?.rawValue ?? null;
    }
  }
  const { decodeQR } = await import("./vendor/qr/decode.js");
  return async (canvas) => {
    const { width, height } = canvas;
    try {
      return decodeQR(canvas.getContext("2d").getImageData(0, 0, width, height));
    } catch {
      return null;
    }
  };
}

function draw(source, width, height, factor) {
  const scale = factor * Math.min(1, LARGEST / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** The text of a QR code in a picture file, null where there is none; an error where the file is
 * no picture.
 */
export async function readPicture(file) {
  const picture = await createImageBitmap(file);
  const read = await chooseReader();
  for (const scale of SCALES) {
    const text = await read(draw(picture, picture.width, picture.height, scale));
    if (text) return text;
  }
  return null;
}

/** The text of the first QR code that the camera sees; null when the visitor cancels, undefined
 * when there is no camera to be had.
 */
export async function scan(dialog) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return undefined;
  }
  const video = dialog.querySelector("video");
  const cancel = dialog.querySelector("button");
  let text = null;
  try {
    const read = await chooseReader();
    video.srcObject = stream;
    cancel.onclick = () => dialog.close();
    dialog.showModal();
    await video.play();
    for (let look = 0; dialog.open && !text; look++) {
      const { videoWidth: width, videoHeight: height } = video;
      if (width) text = await read(draw(video, width, height, SCALES[look % 3]));
      if (!text) await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    dialog.close();
  }
  return text || null;
}
