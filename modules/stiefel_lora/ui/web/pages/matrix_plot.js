// Matrix as an image with axes and a color bar. Columns are appended one by one.
const MARGIN = { top: 8, bottom: 36, right: 74 };
const BAR_WIDTH = 12;
const HOVER_MS = 60;

function lookupTable(anchors) {
  const table = new Uint32Array(256);
  const count = anchors.length / 6 - 1;
  const part = (at, byte) => parseInt(anchors.substr(6 * at + 2 * byte, 2), 16);
  for (let value = 0; value < 256; value++) {
    const place = (value / 255) * count;
    const low = Math.min(Math.floor(place), count - 1);
    const mixed = [0, 1, 2].map((byte) =>
      Math.round(part(low, byte) + (place - low) * (part(low + 1, byte) - part(low, byte))));
    table[value] = (255 << 24) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
  }
  return table;
}

export default {
  template: `<div class="sl-plot">
      <canvas ref="canvas" role="img" :aria-label="title"
        @pointermove="hover" @pointerdown="hover" @pointerleave="leave"></canvas>
    </div>`,
  props: { title: String, axes: Array, colors: String, bar: String, ticks: Array },
  created() {
    this.table = lookupTable(this.colors);
    this.rows = this.columns = 0;
    this.sections = [];
    this.labels = [];
    this.image = document.createElement("canvas");
  },
  mounted() {
    this.watchers = [new ResizeObserver(() => this.queue()), new MutationObserver(() => this.queue())];
    this.watchers[0].observe(this.$el);
    this.watchers[1].observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.$emit("ready");
  },
  unmounted() {
    for (const watcher of this.watchers) watcher.disconnect();
  },
  methods: {
    // rows, sections: [[row, name]], labels: [[column, text]], data: base64 of bytes
    load({ rows, sections, labels, data }) {
      this.rows = rows;
      this.columns = 0;
      this.sections = sections;
      this.append({ labels, data });
    },
    append({ labels, data }) {
      this.labels = labels;
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const count = this.rows ? bytes.length / this.rows : 0;
      if (count) this.paint(bytes, count);
      this.$el.dataset.columns = this.columns;
      this.queue();
    },
    // Draw the new columns at the end of the image.
    paint(bytes, count) {
      this.reserve(this.columns + count);
      const pixels = new ImageData(count, this.rows);
      const target = new Uint32Array(pixels.data.buffer);
      for (let column = 0, at = 0; column < count; column++)
        for (let row = 0; row < this.rows; row++) target[row * count + column] = this.table[bytes[at++]];
      this.image.getContext("2d").putImageData(pixels, this.columns, 0);
      this.columns += count;
    },
    reserve(columns) {
      if (this.image.height === this.rows && this.image.width >= columns) return;
      const larger = document.createElement("canvas");
      larger.width = Math.max(Math.ceil(1.5 * columns), 64);
      larger.height = this.rows;
      if (this.columns) larger.getContext("2d").drawImage(this.image, 0, 0);
      this.image = larger;
    },
    queue() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    },
    draw() {
      const canvas = this.$refs.canvas;
      if (!canvas || !this.$el.offsetParent) return;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [this.$el.clientWidth, this.$el.clientHeight];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      pen.clearRect(0, 0, width, height);
      if (!this.columns) return;
      pen.font = "11px sans-serif";
      pen.fillStyle = pen.strokeStyle = getComputedStyle(this.$el).color;
      const widest = Math.max(0, ...this.sections.map((found) => pen.measureText(found[1]).width));
      const left = Math.min(widest + 24, 0.34 * width);
      this.area = { x: left, y: MARGIN.top, w: width - left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
      const { x, y, w, h } = this.area;
      pen.imageSmoothingEnabled = this.columns > w && this.rows > h;
      pen.drawImage(this.image, 0, 0, this.columns, this.rows, x, y, w, h);
      this.drawAxes(pen);
      this.drawBar(pen, width - MARGIN.right + 10, y, h);
    },
    drawAxes(pen) {
      const { x, y, w, h } = this.area;
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      let free = -1;
      for (const [row, name] of this.sections) {
        const top = y + (row / this.rows) * h;
        if (top < free) continue;
        pen.fillRect(x - 4, top, 4, 1);
        pen.fillText(name, x - 6, Math.max(top, y + 6), x - 22);
        free = top + 13;
      }
      pen.textBaseline = "top";
      pen.textAlign = "center";
      for (const [column, name] of this.labels) {
        const place = x + ((column + 0.5) / this.columns) * w;
        pen.fillRect(place, y + h, 1, 4);
        pen.fillText(name, place, y + h + 6);
      }
      pen.fillText(this.axes[1], x + w / 2, y + h + 21);
      this.turned(pen, this.axes[0], 10, y + h / 2);
    },
    drawBar(pen, x, y, h) {
      for (let line = 0; line < h; line++) {
        const value = this.table[Math.round(255 * (1 - line / h))];
        pen.fillStyle = `rgb(${value & 255},${(value >> 8) & 255},${(value >> 16) & 255})`;
        pen.fillRect(x, y + line, BAR_WIDTH, 1.5);
      }
      pen.fillStyle = pen.strokeStyle;
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      for (const [value, text] of this.ticks)
        pen.fillText(text, x + BAR_WIDTH + 3, Math.min(Math.max(y + (1 - value) * h, y + 5), y + h - 4));
      this.turned(pen, this.bar, x + 57, y + h / 2);
    },
    turned(pen, text, x, y) {
      pen.save();
      pen.translate(x, y);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(text, 0, 0);
      pen.restore();
    },
    hover(event) {
      if (!this.columns || !this.area) return;
      const { x, y, w, h } = this.area;
      const column = Math.floor(((event.offsetX - x) / w) * this.columns);
      const row = Math.floor(((event.offsetY - y) / h) * this.rows);
      const inside = column >= 0 && column < this.columns && row >= 0 && row < this.rows;
      this.report(inside ? [column, row] : [-1, -1]);
    },
    leave() {
      this.report([-1, -1]);
    },
    // Send the cell below the pointer when it has changed, at most every HOVER_MS.
    report(cell) {
      if (this.cell && cell[0] === this.cell[0] && cell[1] === this.cell[1]) return;
      this.cell = cell;
      if (this.waiting) return;
      this.waiting = setTimeout(() => {
        this.waiting = null;
        this.$emit("cell", { column: this.cell[0], row: this.cell[1] });
      }, HOVER_MS);
    },
  },
};
