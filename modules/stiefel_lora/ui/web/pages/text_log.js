// Text that grows at the end. The view follows it, unless the user has scrolled up.
const MOST_LINES = 3000;

export default {
  template: `<pre class="sl-log" tabindex="0" :aria-label="label"></pre>`,
  props: { label: String },
  mounted() {
    this.count = 0;
    this.$emit("ready");
  },
  methods: {
    clear() {
      this.$el.textContent = "";
      this.count = 0;
    },
    add(lines) {
      const end = this.$el;
      const follows = end.scrollTop + end.clientHeight >= end.scrollHeight - 8;
      end.append(document.createTextNode(lines.join("\n") + "\n"));
      this.count += lines.length;
      if (this.count > 2 * MOST_LINES) {
        end.textContent = end.textContent.split("\n").slice(-MOST_LINES).join("\n");
        this.count = MOST_LINES;
      }
      if (follows) end.scrollTop = end.scrollHeight;
    },
  },
};
