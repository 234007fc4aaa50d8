// The canvas of draw_defect: strokes on a transparent layer over the image. While you paint, the layer's pixels go to
// the kernel, at most ten times a second; ipywidgets sends the next ones after the kernel has answered.
function render({ model, el }) {
  const width = model.get("width"), height = model.get("height");
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height, className: "rdlib-canvas" });
  Object.assign(canvas.style, { width: "calc(100% - 4px)", aspectRatio: `${width} / ${height}`, touchAction: "none",
                                cursor: "crosshair", backgroundSize: "100% 100%", display: "block", margin: "2px" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "A good image; paint on it with mouse, pen or finger.");
  el.append(canvas);

  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let last = null, timer = null, address = null;

  function showPicture() {
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/jpeg" }));
    canvas.style.backgroundImage = `url(${address})`;
  }

  function send() {
    timer = null;
    model.set("layer", new DataView(pen.getImageData(0, 0, width, height).data.buffer));
    model.save_changes();
  }

  function wipe() {
    clearTimeout(timer);
    timer = null;
    pen.clearRect(0, 0, width, height);
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
  }

  function stroke(event) {
    const here = place(event);
    Object.assign(pen, { lineWidth: model.get("brush"), strokeStyle: model.get("colour"), lineCap: "round" });
    pen.beginPath();
    pen.moveTo(...(last ?? here));
    pen.lineTo(...here);
    pen.stroke();
    last = here;
    timer ??= setTimeout(send, 100);
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(event); });
  model.on("change:picture", showPicture);
  model.on("change:wiped", wipe);
  showPicture();
  return () => {
    clearTimeout(timer);
    URL.revokeObjectURL(address);
  };
}

export default { render };
