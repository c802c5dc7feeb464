// The image with the mask over it, on two canvases that lie on each other.

export class View {
  constructor(layers, image, mask, cross) {
    Object.assign(this, { layers, image, mask, cross });
    this.hidden = new Set();
    this.place = null;
  }

  /** Shows the stored pixels of an image, without a mask. */
  showImage(bitmap) {
    for (const canvas of [this.image, this.mask]) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    this.layers.style.setProperty("--ratio", bitmap.width / bitmap.height);
    this.layers.classList.toggle("small", Math.max(bitmap.width, bitmap.height) < 400);
    this.image.getContext("2d").drawImage(bitmap, 0, 0);
    this.prediction = null;
    this.point(null);
  }

  /** Shows a prediction; colours: [red, green, blue] of each class. */
  showMask(prediction, colours) {
    this.prediction = prediction;
    this.colours = colours;
    this.hidden.clear();
    this.paint();
  }

  setVisible(id, visible) {
    if (visible) this.hidden.delete(id);
    else this.hidden.add(id);
  }

  /** Draws the mask again. Hidden classes, and those whose colour is black, are transparent, as in overlays. */
  paint() {
    const { ids, width, height } = this.prediction;
    const table = new Uint32Array(256);
    const bytes = new Uint8Array(table.buffer);
    this.colours.forEach((colour, id) => {
      if (!this.hidden.has(id) && colour.some((part) => part > 0)) bytes.set([...colour, 255], 4 * id);
    });
    const context = this.mask.getContext("2d");
    const data = context.createImageData(width, height);
    const pixels = new Uint32Array(data.data.buffer);
    for (let i = 0; i < ids.length; i++) pixels[i] = table[ids[i]];
    context.putImageData(data, 0, 0);
  }

  setOpacity(share) {
    this.share = share;
    this.mask.style.opacity = share;
  }

  /** Image and mask in one canvas, as they are seen. */
  overlay() {
    const canvas = document.createElement("canvas");
    canvas.width = this.image.width;
    canvas.height = this.image.height;
    const context = canvas.getContext("2d");
    context.drawImage(this.image, 0, 0);
    context.globalAlpha = this.share;
    context.drawImage(this.mask, 0, 0);
    return canvas;
  }

  /** The pixel under a pointer event. */
  under(event) {
    const box = this.layers.getBoundingClientRect();
    return this.within(
      Math.floor(((event.clientX - box.left) / box.width) * this.image.width),
      Math.floor(((event.clientY - box.top) / box.height) * this.image.height),
    );
  }

  within(x, y) {
    const limit = (value, size) => Math.min(size - 1, Math.max(0, value));
    return { x: limit(x, this.image.width), y: limit(y, this.image.height) };
  }

  /** Moves the pointer by shares of the image's sides; without one, it begins in the middle. */
  step(right, down) {
    const from = this.place ?? { x: this.image.width >> 1, y: this.image.height >> 1 };
    const pixels = (share, size) => Math.sign(share) * Math.max(1, Math.round(Math.abs(share) * size));
    return this.within(from.x + pixels(right, this.image.width), from.y + pixels(down, this.image.height));
  }

  /** Sets the pointer to a pixel, or to none; returns the class and its confidence there. */
  point(place, visible = false) {
    this.place = place;
    this.cross.hidden = !(place && visible);
    if (!place) return null;
    this.cross.style.left = `${((place.x + 0.5) / this.image.width) * 100}%`;
    this.cross.style.top = `${((place.y + 0.5) / this.image.height) * 100}%`;
    if (!this.prediction) return null;
    const index = place.y * this.prediction.width + place.x;
    return { id: this.prediction.ids[index], confidence: this.prediction.confidence[index] / 255 };
  }
}
