// Decodes images to their pixels as stored, which are what the server segments. EXIF may ask viewers to turn an image,
// and browsers always do: so they get it without EXIF.

/** The stored pixels of a JPEG or PNG file, as an ImageBitmap; rejects if the browser cannot decode it. */
export async function storedPixels(file) {
  const data = new DataView(await file.arrayBuffer());
  const kept = [...withoutExif(data)].map(([start, end]) => file.slice(start, end));
  return createImageBitmap(new Blob(kept), { colorSpaceConversion: "none" });
}

/** The ranges of bytes that are left without EXIF. */
function* withoutExif(data) {
  const parts = isJpeg(data) ? exifOfJpeg(data) : isPng(data) ? exifOfPng(data) : [];
  let position = 0;
  for (const [start, end] of parts) {
    yield [position, start];
    position = end;
  }
  yield [position, data.byteLength];
}

const isJpeg = (data) => data.byteLength > 3 && data.getUint16(0) === 0xffd8;
const isPng = (data) => data.byteLength > 8 && data.getUint32(0) === 0x89504e47;

/** The segments APP1 before the first scan, which are EXIF or other metadata. */
function* exifOfJpeg(data) {
  let position = 2;
  while (position + 4 <= data.byteLength && data.getUint8(position) === 0xff) {
    const marker = data.getUint8(position + 1);
    if (marker === 0xff) {
      position += 1; // a fill byte
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    const end = position + 2 + data.getUint16(position + 2);
    if (marker === 0xe1) yield [position, Math.min(end, data.byteLength)];
    position = end;
  }
}

/** The chunks eXIf. */
function* exifOfPng(data) {
  let position = 8;
  while (position + 12 <= data.byteLength) {
    const end = position + 12 + data.getUint32(position);
    if (data.getUint32(position + 4) === 0x65584966) yield [position, Math.min(end, data.byteLength)];
    position = end;
  }
}
