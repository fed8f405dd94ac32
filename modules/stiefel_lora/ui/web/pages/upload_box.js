// Upload of images, captions and zip files to a dataset, one file after the other.
export default {
  template: `
    <div class="sl-upload" @dragover.prevent @drop.prevent="drop">
      <label class="sl-link">Choose files
        <input type="file" multiple hidden accept="image/*,.txt,.zip" @change="choose" /></label>
      <span class="sl-quiet"> or drop images, captions (.txt) or a zip file here.</span>
      <div class="sl-note" v-for="(row, at) in rows" :key="at" :class="row.wrong ? 'sl-error' : 'sl-quiet'">
        {{ row.name }}: {{ row.text }}</div>
    </div>`,
  props: { dataset: String },
  data: () => ({ rows: [] }),
  methods: {
    choose(event) {
      this.send([...event.target.files]);
      event.target.value = "";
    },
    drop(event) {
      this.send([...event.dataTransfer.files]);
    },
    async send(files) {
      if (this.busy || !files.length) return;
      this.busy = true;
      this.rows = [];
      let folder = "";
      for (const file of files) {
        // Only the last file and the problems are listed: there may be thousands.
        this.rows = this.rows.filter((row) => row.wrong);
        this.rows.push({ name: file.name, text: "0 %", wrong: false });
        const row = this.rows[this.rows.length - 1];
        const answer = await this.put(file, row);
        row.text = answer.message;
        row.wrong = !answer.folder;
        folder = answer.folder || folder;
      }
      this.busy = false;
      if (folder) this.$emit("uploaded", { folder });
    },
    put(file, row) {
      return new Promise((done) => {
        const request = new XMLHttpRequest();
        const place = [this.dataset, file.name].map(encodeURIComponent).join("/");
        request.open("PUT", `/uploads/${place}`);
        request.upload.onprogress = (event) => {
          if (event.lengthComputable) row.text = `${Math.round((100 * event.loaded) / event.total)} %`;
        };
        request.onerror = () => done({ message: "The connection was lost. Upload the file again." });
        request.onload = () => {
          try {
            done(JSON.parse(request.responseText));
          } catch {
            done({ message: `The server answered with ${request.status}.` });
          }
        };
        request.send(file);
      });
    },
  },
};
