// Decodes waveform blocks beside the page, so that a block never costs a frame. In: {frame, bytes}; out: {frame, block} or {error}.
import { decodeBlock } from "./waveform.js";

self.onmessage = ({ data: { frame, bytes } }) => {
  try {
    const block = decodeBlock(bytes);
    self.postMessage({ frame, block }, [block.samples.buffer]);
  } catch (error) {
    self.postMessage({ frame, error: String(error) });
  }
};
