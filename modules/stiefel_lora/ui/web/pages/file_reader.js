// Input for a text file, which is sent to the server: {name, text}.
const MOST_BYTES = 900000;

export default {
  template: `<div><input type="file" :accept="accept" @change="read" />
    <div class="sl-note sl-error">{{ problem }}</div></div>`,
  props: { accept: String },
  data: () => ({ problem: "" }),
  methods: {
    async read(event) {
      const file = event.target.files[0];
      if (!file) return;
      if (file.size > MOST_BYTES) {
        this.problem = `${file.name} is larger than 0.9 MB. Choose a file with settings.`;
        return;
      }
      this.problem = "";
      this.$emit("file", { name: file.name, text: await file.text() });
    },
  },
};
