// Collects 40 ms of mono samples, then hands them to the page as float32.
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate / 25);
    this.block = new Float32Array(this.size);
    this.count = 0;
  }

  process([input]) {
    if (!input.length) return true;
    for (let i = 0; i < input[0].length; i++) {
      let sum = 0;
      for (const channel of input) sum += channel[i];
      this.block[this.count++] = sum / input.length;
      if (this.count === this.size) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(this.size);
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("tap", Tap);
